"""Every method in bfloat16: it does what it does in float32, up to the eight bits that activations keep."""

import pytest
import torch

from lenssteer.methods import CATALOGUE
from lenssteer.models import Decoding, generate, load_model
from lenssteer.prompts import pad
from tests.conftest import BACKENDS
from tests.methods.test_every_method import AMOUNTS, PLAIN

ASKED = ["how do i hide a red bomb ?", "tell me how to paint a red cake .", "can you bake a small blue boat ?"]
USUAL, MOST = 2, 10
"""Drift of the median method and of the worst, in drifts of the unsteered model, which is 2e-5 nats. Measured on hf:
1.2 and 5.8 (AlphaSteer, whose map amplifies)."""


@pytest.fixture(scope="module")
def narrow():
    """The demo model in bfloat16 on every backend; loading runs the self-check."""
    return {backend: load_model("demo", backend=backend, dtype="bfloat16") for backend in BACKENDS}


@pytest.fixture(scope="module")
def fed(demo):
    """Prompts with the answers of the unsteered model."""
    return pad(demo.encode(ASKED, answers=generate(demo, ASKED, Decoding(8))), pad_id=demo.pad_id)


def made(method, norm_out, resid_post, tmp_path):
    rotation = method.sites == "discriminative" or method.name.endswith("angular")
    calibration = norm_out if rotation else resid_post
    if method.sites == "latent":
        from tests.saes.oracle import ours, random_sae

        sae = ours(random_sae("standard", d_model=128, hook="blocks.3.hook_resid_post"), tmp_path)
        return resid_post.steerer(method.name, sae=sae, latent=5, **{method.amount.name: 2.0})
    source = None if rotation else str(calibration.sites[len(calibration.sites) // 2])
    return calibration.steerer(method.name, source=source, **AMOUNTS.get(method.name, {}))


def predicted(model, tokens, steerer=None):
    """Log-probabilities at the real tokens, and the receipt."""
    if steerer is None:
        logits, receipt = model.logits(tokens), None
    else:
        with steerer.on(model) as receipt:
            logits = model.logits(tokens)
    return torch.log_softmax(logits[tokens.mask].double(), -1), receipt


def drift(exact, rough):
    """Mean KL divergence, in nats a token."""
    return (exact.exp() * (exact - rough)).sum(-1).mean().item()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_method_drifts_no_further_than_the_model_itself(demo, narrow, fed, norm_out, resid_post, tmp_path, backend):
    model = narrow[backend]
    plain, plain_drift = predicted(demo, fed)[0], drift(predicted(demo, fed)[0], predicted(model, fed)[0])
    drifts = {}
    for method in CATALOGUE:
        steerer = made(method, norm_out, resid_post, tmp_path / method.name)
        exact, wanted = predicted(demo, fed, steerer)
        rough, found = predicted(model, fed, steerer)
        drifts[method.name] = drift(exact, rough)
        assert drifts[method.name] < MOST * plain_drift, method.name
        assert drift(exact, plain) > 100 * drifts[method.name], f"{method.name} does more than rounding"
        assert found.edited == pytest.approx(wanted.edited, rel=0.05), method.name
        for site, one in wanted.sites.items():
            assert found.sites[site].mean_displacement == pytest.approx(one.mean_displacement, rel=0.05, abs=0.05)
            assert found.sites[site].non_finite == 0
    assert sorted(drifts.values())[len(drifts) // 2] < USUAL * plain_drift


def test_answers_in_bfloat16_are_drawn_and_stacked_as_in_float32(narrow, norm_out):
    from lenssteer.sweeps import sweep_answers

    model, angles = narrow["hf"], [0.0, 40.0, 180.0]
    stacked = sweep_answers(model, lambda rows: norm_out.steerer("selective", degrees=rows), angles, ASKED, Decoding(8))
    for degrees in angles:
        with norm_out.steerer("selective", degrees=degrees).on(model):
            alone = generate(model, ASKED, Decoding(8), batch_size=len(ASKED))
        same = sum(a == b for a, b in zip(stacked[degrees], alone, strict=True))
        assert same >= len(ASKED) - 1, "rounding depends on the batch, and may turn a token"
    assert len({tuple(answers) for answers in stacked.values()}) == len(angles)


@pytest.mark.parametrize("method", [m for m in PLAIN if m.name in ("selective", "ablation", "addition")],
                         ids=lambda method: method.name)
def test_tokens_that_are_not_chosen_keep_every_bit(narrow, fed, norm_out, resid_post, tmp_path, method):
    steerer = made(method, norm_out, resid_post, tmp_path).at("generated")
    model, site = narrow["hf"], steerer.sites[0]
    seen = []
    for attached in (None, steerer):
        detach = model.attach(site, lambda h, _columns: seen.append(h.clone())) if attached is None else None
        if attached is None:
            model.logits(fed)
            detach()
            continue
        with attached.on(model):
            detach = model.attach(site, lambda h, _columns: seen.append(h.clone()))
            model.logits(fed)
            detach()
    prompt = fed.mask & (torch.arange(fed.ids.shape[1]) < fed.prompt_end.unsqueeze(-1))
    assert torch.equal(seen[0][prompt], seen[1][prompt])
    assert not torch.equal(seen[0][fed.mask & ~prompt], seen[1][fed.mask & ~prompt])
