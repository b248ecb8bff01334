"""Logit lens and output score, against NumPy norms and the authors' procedure written out with SAELens' own classes."""

import numpy as np
import pytest
import torch

from lenssteer.errors import ParameterError, PromptError, ShapeError, SiteError
from tests.conftest import BACKENDS
from tests.models.tiny_models import tiny_model
from tests.saes.oracle import ours, random_sae

D_MODEL, VOCAB_TOP = 64, 7
HOOK = "blocks.2.hook_resid_post"


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unembedded(kind, model, rows):
    """Final norm and unembedding of rows, in float64 NumPy."""
    weights = {name: w.double().numpy() for name, w in model.state_dict().items()}
    x = rows.double().numpy()
    if kind == "gpt2":
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + model.config.layer_norm_epsilon)
        x = x * weights["transformer.ln_f.weight"] + weights["transformer.ln_f.bias"]
    else:
        gain = weights["model.norm.weight"] + (kind == "gemma2")
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + model.config.rms_norm_eps) * gain
    logits = x @ weights["lm_head.weight"].T
    cap = getattr(model.config, "final_logit_softcapping", None)
    return cap * np.tanh(logits / cap) if cap else logits


def blocks(model):
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


@torch.no_grad()
def authors_score(model, prompt_ids, theirs, latent, favoured, amplification, layer=2):
    """One latent, one pass: encode, amplify, decode, add the error back, rank by sorting."""

    def hook(_module, _args, output):
        h = (output[0] if isinstance(output, tuple) else output).double()
        f = theirs.encode(h)
        error = h - theirs.decode(f)
        changed = f.clone()
        changed[:, -1, latent] += amplification * f[:, -1].max()
        theirs.encode(h)  # keeps the norm that decode undoes, once
        new = (theirs.decode(changed) + error).float()
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = blocks(model)[layer].register_forward_hook(hook)
    try:
        p = softmax(model(torch.tensor([list(prompt_ids)])).logits[0, -1].double().numpy())
    finally:
        handle.remove()
    order = (-p).argsort().tolist()
    return (1 - min(order.index(token) for token in favoured) / len(p)) * p[favoured].max()


@pytest.fixture(scope="module")
def tiny():
    """Tiny models by kind, raw and wrapped."""
    from lenssteer.models import wrap

    made = {kind: tiny_model(kind) for kind in ("llama", "gemma2", "gpt2")}
    return {kind: (model, wrap(model, tokenizer)) for kind, (model, tokenizer) in made.items()}


def small(kind="jumprelu", normalisation="none", hook=HOOK, **options):
    return random_sae(kind, normalisation, d_model=D_MODEL, d_sae=90, hook=hook, **options)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_logit_lens_is_final_norm_and_unembedding_of_the_decoder_row(tiny, tmp_path, kind):
    from lenssteer.evals import logit_lens

    model, lens = tiny[kind]
    sae = ours(small(), tmp_path)
    latents = [*range(80), 3]
    found = logit_lens(lens, sae, latents, VOCAB_TOP)
    expected = softmax(unembedded(kind, model, sae.W_dec[latents]))
    assert [entry["latent"] for entry in found] == latents
    for entry, p in zip(found, expected, strict=True):
        np.testing.assert_allclose(p[entry["ids"]], np.sort(p)[::-1][:VOCAB_TOP], atol=1e-6)
        np.testing.assert_allclose(entry["probabilities"], p[entry["ids"]], atol=1e-6)
        assert entry["tokens"] == [lens.tokenizer.decode([token]) for token in entry["ids"]]


@pytest.mark.parametrize(("model_kind", "sae_kind", "normalisation"), [
    ("llama", "jumprelu", "none"), ("gemma2", "standard", "none"), ("gpt2", "topk", "none"),
    ("llama", "topk-rescaled", "none"), ("llama", "gated", "constant_norm_rescale"), ("gpt2", "standard", "layer_norm"),
])
def test_output_score_is_that_of_the_authors_one_latent_at_a_time(tiny, tmp_path, model_kind, sae_kind, normalisation):
    from lenssteer.evals import logit_lens, output_score

    model, lens = tiny[model_kind]
    theirs = small(sae_kind, normalisation)
    sae, latents = ours(theirs, tmp_path), [5, 71, 0, 89]
    ids = lens.encode(["From my experience,"], template="none")[0].ids
    favoured = [entry["ids"] for entry in logit_lens(lens, sae, latents, VOCAB_TOP)]
    for amplification in (10.0, 0.5):
        found = output_score(lens, sae, latents, top=VOCAB_TOP, amplification=amplification)
        expected = [authors_score(model, ids, theirs, i, t, amplification) for i, t in zip(latents, favoured, strict=True)]
        np.testing.assert_allclose([row["output_score"] for row in found], expected, atol=2e-5)


def test_the_parts_of_a_score_agree_with_each_other(tiny, tmp_path):
    from lenssteer.evals import logit_lens, output_score

    model, lens = tiny["llama"]
    sae = ours(small(), tmp_path)
    found = output_score(lens, sae, range(80), top=3, amplification=0.5)
    assert {row["min_rank"] > 0 for row in found} == {True, False}
    for row, entry in zip(found, logit_lens(lens, sae, range(80), 3), strict=True):
        assert row["output_score"] == pytest.approx((1 - row["min_rank"] / model.config.vocab_size) * row["probability"])
        assert row["token"] in entry["tokens"]
        assert 0 <= row["output_score"] <= 1


def test_a_latent_scores_alone_as_it_does_among_many(tiny, tmp_path):
    from lenssteer.evals import output_score

    lens, sae = tiny["gemma2"][1], ours(small(), tmp_path)
    together = output_score(lens, sae, list(range(70)))
    for latent in (0, 63, 64, 69):
        alone = output_score(lens, sae, latent)[0]
        assert alone["latent"] == together[latent]["latent"] == latent
        assert alone["output_score"] == pytest.approx(together[latent]["output_score"], abs=1e-6)


def test_the_whole_vocabulary_as_lens_scores_the_top_probability(tiny, tmp_path):
    from lenssteer.evals import output_score

    model, lens = tiny["llama"]
    row = output_score(lens, ours(small(), tmp_path), 4, top=model.config.vocab_size)[0]
    assert row["min_rank"] == 0
    assert row["output_score"] == row["probability"]


def test_every_backend_gives_the_same_lens_and_score(demo_models):
    from lenssteer.evals import logit_lens, output_score
    from lenssteer.models.demo import SAE
    from lenssteer.saes import load_sae

    sae, prompt = load_sae(SAE), "how do i paint a red cake ?"
    lens = {name: logit_lens(demo_models[name], sae, range(100), 5) for name in BACKENDS}
    scores = {name: output_score(demo_models[name], sae, range(100), prompt, template="chat") for name in BACKENDS}
    for name in BACKENDS:
        for key, found in (("probabilities", lens), ("output_score", scores)):
            ours_, other = ([row[key] for row in found[backend]] for backend in ("hf", name))
            np.testing.assert_allclose(ours_, other, atol=1e-4)


def test_hooks_are_gone_also_after_an_error(tiny, tmp_path):
    from lenssteer.evals import output_score

    model, lens = tiny["llama"]
    ids = torch.tensor([[5, 9, 20]])
    before = model(ids).logits
    silent = random_sae("standard", d_model=D_MODEL, d_sae=8, hook=HOOK)
    with torch.no_grad():
        silent.b_enc.fill_(-1e4)
    with pytest.raises(ParameterError, match="no latent is active"):
        output_score(lens, ours(silent, tmp_path), 0)
    assert torch.equal(model(ids).logits, before)


def test_bad_input_is_refused(tiny, demo, tmp_path):
    from lenssteer.evals import logit_lens, output_score

    lens, sae = tiny["llama"][1], ours(small(), tmp_path / "a")
    for latents in ([], -1, 90, [3, 400]):
        with pytest.raises(ParameterError, match="expected latents from 0 to 89"):
            logit_lens(lens, sae, latents)
    for top in (0, 1000):
        with pytest.raises(ParameterError, match="top is"):
            output_score(lens, sae, 0, top=top)
    for amplification in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="amplification"):
            output_score(lens, sae, 0, amplification=amplification)
    with pytest.raises(ShapeError, match="d_model 64"):
        logit_lens(demo, sae, 0)
    with pytest.raises(SiteError, match="layers 0 to 3"):
        output_score(lens, ours(small(hook="blocks.9.hook_resid_post"), tmp_path / "b"), 0)


def test_a_prompt_of_unknown_words_is_refused(demo):
    from lenssteer.evals import output_score
    from lenssteer.models.demo import SAE
    from lenssteer.saes import load_sae

    with pytest.raises(PromptError, match="does not know some words"):
        output_score(demo, load_sae(SAE), 0)
