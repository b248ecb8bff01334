"""The shipped autoencoder: SAELens reads the same, it was trained on the shipped model, and it is good on held-out text."""

import warnings

import pytest
import torch

from tests.conftest import hooked_only
from tests.saes.oracle import sae_lens


@pytest.fixture(scope="module")
def sae():
    """The shipped autoencoder in float64."""
    from lenssteer.models.demo import SAE
    from lenssteer.saes import load_sae

    return load_sae(SAE).to(dtype=torch.float64)


@pytest.fixture(scope="module")
def held_out(demo):
    """Test prompts with the model's own answers, as padded batches."""
    from lenssteer.models import generate
    from lenssteer.models.demo.trivia import facts
    from lenssteer.models.demo.world import requests
    from lenssteer.prompts import batches, pad

    rows = [row for kind in ("harmful", "harmless", "borderline") for row in requests("test", kind)] + facts("test")
    texts = [row.text for row in rows]
    encoded = demo.encode(texts, answers=[f"{answer} <end>" for answer in generate(demo, texts)])
    groups = batches(encoded, tokens=1 << 13, rows=64)
    return [pad([encoded[i] for i in group], pad_id=demo.pad_id, rows=group) for group in groups]


@pytest.fixture(scope="module")
def activations(demo, sae, held_out):
    """Activations at every token but the first and padding."""
    found = []
    for tokens in held_out:
        kept = after_first(demo, tokens)
        detach = demo.attach(sae.site, lambda h, _columns, kept=kept: found.append(h[kept].double()))
        demo.logits(tokens)
        detach()
    return torch.cat(found)


def after_first(demo, tokens):
    return tokens.mask & (tokens.ids != demo.tokenizer.bos_token_id)


def answer_loss(demo, sae, held_out, change):
    """Mean cross entropy of answer tokens, with activations changed everywhere but at the first token."""
    losses = []
    for tokens in held_out:
        kept = after_first(demo, tokens).unsqueeze(-1)
        detach = demo.attach(sae.site, lambda h, _c, kept=kept: torch.where(kept, change(h.double()).to(h.dtype), h))
        try:
            logp = torch.log_softmax(demo.logits(tokens)[:, :-1].double(), -1)
        finally:
            detach()
        column = torch.arange(1, tokens.ids.shape[1])
        told = (column >= tokens.prompt_end.unsqueeze(-1)) & tokens.mask[:, 1:]
        losses.append(-logp.gather(-1, tokens.ids[:, 1:].unsqueeze(-1))[..., 0][told])
    return torch.cat(losses).mean().item()


def test_it_is_small_and_reads_the_block_output_of_layer_3(sae, demo):
    from lenssteer.models.demo import SAE

    assert sum(path.stat().st_size for path in SAE.iterdir()) < 4_000_000
    assert str(sae.site) == "resid_post.3"
    assert (sae.kind, sae.d_model, sae.d_sae) == ("jumprelu", demo.card.d_model, 512)


def test_it_was_trained_on_the_shipped_weights(sae, demo):
    """Fails when the model was trained again and the autoencoder was not: run lenssteer.models.demo.train_sae."""
    assert sae.metadata["model_fingerprint"] == demo.card.fingerprint


def test_saelens_reads_the_same_autoencoder(sae, activations):
    from lenssteer.models.demo import SAE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sae_lens().SAE.load_from_disk(SAE, dtype="float64")
    latents = theirs.encode(activations)
    torch.testing.assert_close(sae.encode(activations), latents, atol=1e-10, rtol=0)
    torch.testing.assert_close(sae.decode(latents), theirs.decode(latents), atol=1e-10, rtol=0)


def test_it_explains_held_out_activations_with_few_latents(sae, activations):
    latents = sae.encode(activations)
    error = (activations - sae.decode(latents)).square().sum()
    assert 1 - error / (activations - activations.mean(0)).square().sum() > 0.97
    assert 8 < (latents > 0).sum(-1).double().mean() < 18
    assert ((latents > 0).any(0)).double().mean() > 0.8
    assert ((latents > 0).double().mean(0) < 0.6).all()


def test_the_model_answers_as_well_on_what_is_decoded(sae, demo, held_out):
    base, decoded, nothing = (answer_loss(demo, sae, held_out, change) for change in (
        lambda h: h, lambda h: sae.decode(sae.encode(h)), torch.zeros_like))
    assert (nothing - decoded) / (nothing - base) > 0.99


@pytest.fixture(scope="module")
def refusal_latent(demo, sae, demo_contrast):
    """The latent that tells harmful from harmless calibration prompts best, and its highest value on them."""
    from lenssteer.capture import capture_samples
    from lenssteer.directions.sae import select_latents

    samples = capture_samples(demo, demo_contrast, [sae.site])
    best = select_latents(sae, samples.positive[0], samples.negative[0], "mean_difference", top=1)[0]["latent"]
    return best, sae.encode(samples.positive[0])[:, best].max().item()


def test_one_latent_tells_harmful_from_harmless_on_held_out_pairs(demo, sae, refusal_latent):
    from sklearn.metrics import roc_auc_score

    from lenssteer.capture import capture_samples
    from lenssteer.models.demo.world import requests
    from lenssteer.prompts import ContrastSet

    texts = [tuple(row.text for row in requests("test", kind)) for kind in ("harmful", "harmless")]
    samples = capture_samples(demo, ContrastSet(texts[0], texts[1]), [sae.site])
    f = sae.encode(torch.cat([samples.positive[0], samples.negative[0]]))[:, refusal_latent[0]]
    assert roc_auc_score([1] * len(texts[0]) + [0] * len(texts[1]), f.numpy()) > 0.98


def test_that_latent_steers_refusal_and_leaves_harmless_answers_alone(demo, sae, refusal_latent):
    from lenssteer.edits.sae import clamp_latent
    from lenssteer.evals import demo_rates
    from lenssteer.models import generate
    from lenssteer.models.demo.world import requests
    from lenssteer.steering import Steerer

    latent, highest = refusal_latent
    rows = {kind: requests("selection", kind)[:24] for kind in ("harmful", "harmless")}
    with Steerer({sae.site: clamp_latent(sae, latent, -4 * highest)}).on(demo):
        rates = {kind: demo_rates(asked, generate(demo, [row.text for row in asked])) for kind, asked in rows.items()}
    assert rates["harmful"].refusal < 0.3
    assert rates["harmless"].exact > 0.9


@hooked_only
@pytest.mark.filterwarnings("ignore")
def test_a_short_run_of_the_script_writes_what_load_sae_reads(demo, tmp_path):
    sae_lens()
    from lenssteer.models.demo.train_sae import train
    from lenssteer.saes import load_sae

    train(tmp_path, layer=1, tokens=30_000, seed=3)
    made = load_sae(tmp_path)
    assert str(made.site) == "resid_post.1"
    assert made.metadata["model_fingerprint"] == demo.card.fingerprint
