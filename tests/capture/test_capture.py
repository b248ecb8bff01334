import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from lenssteer.capture import ActivationStore, ReadAt, activations, capture_moments
from lenssteer.errors import FileError, ParameterError, SteeringError
from lenssteer.prompts import ContrastSet
from lenssteer.site import STREAMS, Site

SITES = [Site(layer, stream) for layer in (1, 4) for stream in STREAMS]


@pytest.fixture(scope="module")
def contrast(demo_contrast):
    return ContrastSet(demo_contrast.positive[:20], demo_contrast.negative[:13])


def by_hand(demo, prompt: str) -> torch.Tensor:
    """Last-token resid_post of every layer from transformers alone, one prompt at a time, no padding.

    The last of the hidden states is normed, so it is left out.
    """
    ids = demo.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                             tokenize=True, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        states = demo.backend.model(ids, output_hidden_states=True).hidden_states
    return torch.stack([state[0, -1] for state in states[1:-1]])


def test_activations_equal_hidden_states_of_transformers(demo, contrast):
    sites = [Site(layer, "resid_post") for layer in range(demo.card.n_layers - 1)]
    expected = torch.stack([by_hand(demo, prompt) for prompt in contrast.positive], 1)
    found = torch.empty_like(expected)
    for rows, read in activations(demo, demo.encode(contrast.positive), sites, ReadAt(), batch_size=7):
        found[:, rows] = read
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_moments_equal_numpy_over_all_samples(demo, contrast):
    found = capture_moments(demo, contrast, SITES, scatter=True, batch_tokens=100)
    for label, prompts in (("positive", contrast.positive), ("negative", contrast.negative)):
        samples = np.empty((len(SITES), len(prompts), demo.card.d_model))
        for rows, read in activations(demo, demo.encode(prompts), sorted(SITES), ReadAt()):
            samples[:, rows.numpy()] = read.double().numpy()
        moments, unit = getattr(found, label), getattr(found, label + "_unit")
        assert moments.n == len(prompts)
        np.testing.assert_allclose(moments.mean, samples.mean(1), atol=1e-5)
        np.testing.assert_allclose(moments.scatter[3], np.cov(samples[3].T, bias=True) * len(prompts), atol=1e-3)
        norms = np.linalg.norm(samples, axis=-1, keepdims=True)
        np.testing.assert_allclose(unit.mean, (samples / norms).mean(1), atol=1e-6)


def test_backends_capture_the_same(demo_models, contrast):
    found = {name: capture_moments(lens, contrast, SITES).positive.mean for name, lens in demo_models.items()}
    for name in found:
        torch.testing.assert_close(found[name], found["hf"], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("at", ["mean(prompt)", "mean(instruction)", "last_instruction", "offset(-2)"])
def test_positions_do_not_depend_on_the_batch(demo, contrast, at):
    means = [capture_moments(demo, contrast, SITES, at, batch_tokens=tokens).positive.mean for tokens in (1, 4000)]
    torch.testing.assert_close(means[0], means[1], atol=1e-5, rtol=1e-5)


def test_the_pass_stops_after_the_last_site_and_skips_the_head(demo, contrast):
    ran = []
    handles = [module.register_forward_hook(lambda m, a, o, name=name: ran.append(name))
               for name, module in demo.backend.model.named_modules() if name]
    try:
        capture_moments(demo, contrast, [Site(2, "ln2_out")])
    finally:
        for handle in handles:
            handle.remove()
    assert "model.layers.1" in ran
    assert not {"model.layers.2.mlp", "model.layers.3", "lm_head", "model.norm"} & set(ran)


def test_a_steered_model_is_captured_as_steered(demo, contrast):
    from lenssteer import edits
    from lenssteer.steering import Steerer

    v = torch.randn(demo.card.d_model)
    plain = capture_moments(demo, contrast, [Site(2, "resid_post")]).positive.mean
    with Steerer({Site(2, "resid_post"): edits.add(v)}).on(demo):
        steered = capture_moments(demo, contrast, [Site(2, "resid_post")]).positive.mean
    torch.testing.assert_close(steered, plain + v, atol=1e-5, rtol=0)


def test_nothing_is_left_on_the_model(demo, contrast):
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in demo.backend.model.modules())

    before = hooks()
    capture_moments(demo, contrast, SITES)
    assert hooks() == before


def test_no_sites_and_broken_activations_are_refused(demo, contrast):
    with pytest.raises(ParameterError, match="no sites"):
        capture_moments(demo, contrast, [])
    from lenssteer import edits
    from lenssteer.steering import Steerer

    overflow = Steerer({Site(1, "resid_post"): edits.add(torch.full((demo.card.d_model,), 3e38), 2.0)})
    with pytest.raises(SteeringError, match="not finite"), overflow.on(demo):
        capture_moments(demo, contrast, [Site(1, "resid_post")])


def test_samples_survive_a_sharded_store(demo, contrast, tmp_path):
    encoded = demo.encode(contrast.positive)
    batches = activations(demo, encoded, SITES, ReadAt(), batch_size=3)
    store = ActivationStore.write(tmp_path / "store", SITES, batches, shard_size=8)
    assert len(store.shards) > 1
    assert store.count == len(contrast.positive)
    expected = torch.empty(len(contrast.positive), demo.card.d_model)
    for rows, read in activations(demo, encoded, [SITES[5]], ReadAt()):
        expected[rows] = read[0]
    torch.testing.assert_close(ActivationStore.open(tmp_path / "store").site(SITES[5]), expected, atol=1e-5, rtol=0)


def test_stores_refuse_what_they_cannot_do(demo, tmp_path):
    batch = [(torch.arange(2), torch.zeros(1, 2, 4))]
    store = ActivationStore.write(tmp_path / "s", SITES[:1], batch)
    with pytest.raises(FileError, match="holds a store already"):
        ActivationStore.write(tmp_path / "s", SITES[:1], batch)
    with pytest.raises(FileError, match="is not in"):
        store.site(SITES[3])
    with pytest.raises(FileError, match="no finished store"):
        ActivationStore.open(tmp_path)
    (tmp_path / "s" / store.shards[0]).unlink()
    with pytest.raises(FileError, match="cannot be read"):
        store.site(SITES[0])


MEMORY = """
    import resource, sys
    from lenssteer.models import load_model
    from lenssteer.prompts import ContrastSet
    from lenssteer.capture import capture_moments
    n = int(sys.argv[1])
    model = load_model("demo", backend="hf", check=False)
    words = ("cake", "kite", "table", "lamp", "basket", "pillow", "boat", "garden")
    prompts = [f"how do i paint a red {words[i % 8]} ? {i}" for i in range(n)]
    contrast = ContrastSet(tuple(prompts[: n // 2]), tuple(prompts[n // 2 :]))
    capture_moments(model, contrast, model.sites("norm_out")[:3], scatter=True, batch_tokens=2048)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_for_20_000_prompts_is_within_100_mb_of_that_for_200():
    def peak(n: int) -> float:
        code = textwrap.dedent(MEMORY)
        done = subprocess.run([sys.executable, "-c", code, str(n)], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    assert peak(20_000) - peak(200) < 100
