"""Compiled decoding steps: the same tokens, and hooks that fire whenever they were attached."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig

from lenssteer import edits
from lenssteer.errors import ModelError, SteeringError
from lenssteer.models import Decoding, LensModel, generate, load_model, wrap
from lenssteer.models.compiled import CompiledBackend, StepCache
from lenssteer.prompts import Columns, pad
from lenssteer.site import Site
from lenssteer.steering import Steerer
from tests.models.tiny_models import random_model, tiny_model, tiny_tokenizer

PROMPTS = ["How do I bake a loaf of bread at home?", "kite", "How do I pick the lock of a door that is not mine?"]
ANSWERS = Decoding(max_new_tokens=9)


@pytest.fixture(scope="module")
def models():
    """A model as it is, and with compiled steps; "eager" runs what the compiler traced without turning it into code."""
    torch._dynamo.reset()
    config = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, vocab_size=400)
    plain = wrap(random_model(config), tiny_tokenizer("llama"))
    backend = CompiledBackend(plain.backend.model, "tiny", "eager")
    return plain, LensModel(backend, plain.tokenizer, plain.stop_ids)


def pushed(lens, sites, amount):
    vector = torch.randn(lens.card.d_model, generator=torch.Generator().manual_seed(0))
    return Steerer({Site.parse(site): edits.add(vector, amount) for site in sites})


def run(lens, steerer, prompts=PROMPTS):
    with steerer.on(lens) as receipt:
        answers = generate(lens, prompts, ANSWERS)
    return answers, {str(site): (one.passes, one.seen, one.edited) for site, one in receipt.sites.items()}


def test_hooks_attached_after_a_step_was_compiled_fire_and_so_do_others_at_their_sites(models):
    plain, compiled = models
    first, late = ["resid_post.0"], ["ln2_out.0", "resid_mid.1"]
    found = []
    for lens in models:
        unsteered = generate(lens, PROMPTS, ANSWERS)
        found.append([unsteered, run(lens, pushed(lens, first, 3.0)), run(lens, pushed(lens, late, 2.0)),
                      run(lens, pushed(lens, first, -3.0)), generate(lens, PROMPTS, ANSWERS)])
    assert found[1] == found[0]
    unsteered, (up, receipt), (elsewhere, _), (down, _), again = found[1]
    assert unsteered == again
    assert len({tuple(answers) for answers in (unsteered, up, elsewhere, down)}) == 4
    assert receipt["resid_post.0"][0] == ANSWERS.max_new_tokens
    assert len(compiled.backend._steps) == 3, "one graph without hooks, and one for each set of sites"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in plain.backend.model.modules())


@pytest.mark.slow
def test_logits_of_a_step_are_those_of_the_plain_model_also_after_rows_were_dropped(models):
    tokens = [pad(lens.encode(PROMPTS), pad_id=lens.pad_id) for lens in models]
    seen = []
    for lens, batch in zip(models, tokens, strict=True):
        cache = lens.backend.new_cache(3)
        lens.run(batch.ids, Columns(0, batch.mask, batch), cache)
        kept = batch.take(torch.tensor([2, 0]))
        cache = lens.backend.take_rows(cache, torch.tensor([2, 0]))
        ids, mask, logits = kept.ids, kept.mask, []
        for step in range(44):
            ids = torch.cat([ids, torch.full((2, 1), 5 + step)], -1)
            mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.bool)], -1)
            logits.append(lens.run(ids[:, -1:], Columns(ids.shape[1] - 1, mask, kept), cache))
            if step == 20:
                kept, ids, mask = kept.take(torch.tensor([1])), ids[1:], mask[1:]
                ids, mask, kept = ids.repeat(2, 1), mask.repeat(2, 1), kept.take(torch.tensor([0, 0]))
                cache = lens.backend.take_rows(cache, torch.tensor([1, 1]))
        seen.append(torch.cat(logits, 1))
    torch.testing.assert_close(seen[1], seen[0], atol=1e-5, rtol=1e-5)


def test_a_graph_that_ignores_hooks_is_an_error(models, monkeypatch):
    _, compiled = models
    generate(compiled, PROMPTS, ANSWERS)
    stale = compiled.backend._compiled()
    monkeypatch.setattr(compiled.backend, "_compiled", lambda: stale)
    with pytest.raises(SteeringError, match=r"did not run the hooks at resid_post\.0"):
        run(compiled, pushed(compiled, ["resid_post.0"], 3.0))


@pytest.mark.slow
def test_a_torch_hook_of_somebody_else_is_not_ignored(models):
    _, compiled = models
    unsteered, module = generate(compiled, PROMPTS, ANSWERS), compiled.backend.blocks[1].mlp
    handle = module.register_forward_hook(lambda _module, _args, output: output * 0)
    try:
        assert generate(compiled, PROMPTS, ANSWERS) != unsteered
    finally:
        handle.remove()
    assert generate(compiled, PROMPTS, ANSWERS) == unsteered


def test_what_reads_an_activation_gets_a_copy_it_may_keep(models):
    plain, compiled = models
    kept = {}
    for lens in models:
        held = kept.setdefault(lens, [])
        detach = lens.attach(Site(1, "resid_post"), lambda h, _columns, held=held: held.append(h))
        generate(lens, PROMPTS[:1], ANSWERS)
        detach()
    for mine, theirs in zip(kept[compiled], kept[plain], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_the_cache_doubles(models):
    cache = StepCache(models[0].backend.model)
    models[0].backend.forward(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), cache.held)
    before = cache.held.layers[0].keys.clone()
    sizes = []
    for columns in (4, 64, 65, 300):
        cache.fix(columns)
        sizes.append(cache.size)
        assert torch.equal(cache.held.layers[0].keys[:, :, :3], before)
        assert int(cache.held.get_seq_length()) == 3
    assert sizes == [64, 64, 128, 512]


def test_what_cannot_be_compiled_is_refused():
    with pytest.raises(ModelError, match="Gemma2ForCausalLM has DynamicSlidingWindowLayer"):
        model, _ = tiny_model("gemma2")
        CompiledBackend(model, "tiny", "eager")
    for given in ({"backend": "bridge"}, {"backend": "hooked"}, {"backend": "hf", "device_map": "auto"}):
        with pytest.raises(ModelError, match="only backend 'hf' on one device is compiled"):
            load_model("demo", compile=True, **given)


INDUCTOR = """
import sys
import torch
torch.set_num_threads(1)
from lenssteer import edits
from lenssteer.models import Decoding, generate, load_model
from lenssteer.site import Site
from lenssteer.steering import Steerer
prompts = ["how do i paint a red cake ?", "tell me how to hide a bomb ."]
vector = torch.randn(64, generator=torch.Generator().manual_seed(0))
steerers = [Steerer({Site(1, "resid_post"): edits.add(vector, amount)}) for amount in (4.0, -4.0)]
found = []
for options in ({}, {"compile": True}):
    model = load_model(sys.argv[1], backend="hf", **options)
    found.append([generate(model, prompts, Decoding(8))])
    for steerer in steerers:
        with steerer.on(model) as receipt:
            found[-1].append(generate(model, prompts, Decoding(8)))
        found[-1].append(receipt.edited)
assert found[0] == found[1] and found[0][1] != found[0][3], found
"""


@pytest.mark.slow
def test_compiled_code_gives_the_same_answers_steered_and_unsteered(tmp_path):
    config = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, vocab_size=400)
    random_model(config).save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    done = subprocess.run([sys.executable, "-c", INDUCTOR, tmp_path], capture_output=True, text=True, timeout=500, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
