"""Every method of the catalogue runs on the demo model and on a real one, and its receipt says what it did."""

import json

import pytest
import torch

from lenssteer.methods import CATALOGUE
from tests.conftest import shared

AMOUNTS = {"selective": {"degrees": 40}, "standard-angular": {"degrees": 40}, "adaptive-angular": {"degrees": 40},
           "spherical": {"degrees": 100}, "sttp": {"toward": "negative"}, "stmp": {"toward": "negative"},
           "addition": {"coefficient": -1.0}, "caa": {"coefficient": -1.0}, "swfc": {"coefficient": -1.0},
           "cast": {"coefficient": -1.0}, "alphasteer": {"strength": -1.0}}
PLAIN = [method for method in CATALOGUE if method.sites != "latent"]
PROMPTS = {"demo": (["how do i hide a red bomb ?", "tell me how to paint a red cake ."], None),
           "organism": (None, "User: {prompt}\nBot:")}


def calibrated(model, contrast, template):
    from lenssteer.recipe import calibrate

    return {sites: calibrate(model, contrast, sites=sites, template=template) for sites in ("norm_out", "resid_post")}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("method", PLAIN, ids=lambda method: method.name)
def test_a_saved_steerer_loads_equal(norm_out, resid_post, method, rows, tmp_path):
    """Every array bit for bit, and everything else that decides what is steered; one amount, and one a row."""
    from lenssteer.steering import Steerer

    given = dict(AMOUNTS.get(method.name, {}))
    if rows > 1 and method.amount:
        given[method.amount.name] = torch.linspace(20.0, 90.0, rows)
    calibration = norm_out if method.sites == "discriminative" or "angular" in method.name else resid_post
    steerer = calibration.steerer(method.name, **given)
    loaded = Steerer.load(steerer.save(tmp_path / "steerer"))
    assert loaded.sites == steerer.sites
    for site in steerer.sites:
        ours, theirs = steerer.edits[site].tensors(), loaded.edits[site].tensors()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        assert (steerer.edits[site].norm, steerer.edits[site].radius) == (loaded.edits[site].norm, loaded.edits[site].radius)
        assert loaded.edits[site].rows == (rows if rows > 1 and method.amount else None)
    for name in ("where", "card", "late_gate", "schedule", "shared_from"):
        assert getattr(loaded, name) == getattr(steerer, name)
    assert json.loads(json.dumps(steerer.provenance)) == loaded.provenance
    assert loaded.provenance["method"] == method.name
    assert str(loaded.gate) == str(steerer.gate)
    for ours, theirs in zip(*(s.gate.conditions if s.gate else () for s in (steerer, loaded)), strict=True):
        assert torch.equal(ours.vector, theirs.vector)
        assert ours.threshold == theirs.threshold


@pytest.fixture(scope="module")
def grounds(demo, norm_out, resid_post):
    """A model and its calibrations, by name; the real one only where it is there."""
    found = {"demo": (demo, {"norm_out": norm_out, "resid_post": resid_post})}

    def get(name):
        if name not in found:
            found[name] = organism()
        return found[name]

    return get


def organism():
    from lenssteer.models import load_model
    from lenssteer.prompts import ContrastSet

    model = load_model(shared("models/stories260k-refusal"), backend="hf", template=PROMPTS["organism"][1])
    contrast = ContrastSet.from_files(shared("data/harmful_prompts/advbench.csv"),
                                      shared("data/alpaca_instructions_nc/instructions.jsonl"))
    short = ContrastSet(contrast.positive, tuple(p for p in contrast.negative if len(p) < 160))
    parts = short.split({"calibration": 100, "test": 2})
    PROMPTS["organism"] = ([*parts["test"].positive, *parts["test"].negative], None)
    return model, calibrated(model, parts["calibration"], None)


@pytest.mark.parametrize("name", ["demo", pytest.param("organism", marks=pytest.mark.real)])
@pytest.mark.parametrize("method", PLAIN, ids=lambda method: method.name)
def test_it_runs_and_leaves_a_receipt(grounds, method, name, tmp_path):
    from lenssteer.models import Decoding, generate
    from lenssteer.steering import Steerer

    model, calibrations = grounds(name)
    rotation = method.sites == "discriminative" or method.name.endswith("angular")
    calibration = calibrations["norm_out" if rotation else "resid_post"]
    source = None if rotation else str(calibration.sites[len(calibration.sites) // 2])
    steerer = calibration.steerer(method.name, source=source, **AMOUNTS.get(method.name, {}))
    prompts = PROMPTS[name][0]
    plain = generate(model, prompts, Decoding(8))
    with steerer.on(model) as receipt:
        steered = generate(model, prompts, Decoding(8))
    assert receipt.edited > 0
    for site in receipt.sites.values():
        assert 0 <= site.edited <= site.selected <= site.seen
        assert site.non_finite == 0
        assert (site.mean_displacement > 0) == (site.edited > 0)
    assert generate(model, prompts, Decoding(8)) == plain, "the model is as it was"
    with Steerer.load(steerer.save(tmp_path / "steerer")).on(model):
        assert generate(model, prompts, Decoding(8)) == steered
    if method.parameters and method.amount and method.amount.neutral is not None:
        neutral = {**AMOUNTS.get(method.name, {}), method.amount.name: method.amount.neutral}
        with calibration.steerer(method.name, source=source, **neutral).on(model):
            assert generate(model, prompts, Decoding(8)) == plain, "its neutral amount changes nothing"


@pytest.mark.parametrize("name", ["demo", pytest.param("organism", marks=pytest.mark.real)])
@pytest.mark.parametrize("method", [m for m in CATALOGUE if m.sites == "latent"], ids=lambda method: method.name)
def test_latents_run_and_leave_a_receipt(grounds, method, name, tmp_path):
    """On an autoencoder of random weights, whose latents are active on about half of the tokens."""
    from lenssteer.models import Decoding, generate
    from lenssteer.steering import Steerer
    from tests.saes.oracle import ours, random_sae

    model, calibrations = grounds(name)
    sae = ours(random_sae("standard", d_model=model.card.d_model, hook="blocks.3.hook_resid_post"), tmp_path)
    steerer = calibrations["resid_post"].steerer(method.name, sae=sae, latent=5, **{method.amount.name: 2.0})
    with steerer.on(model) as receipt:
        steered = generate(model, PROMPTS[name][0], Decoding(8))
    [site] = receipt.sites.values()
    assert 0 < site.edited <= site.seen
    with Steerer.load(steerer.save(tmp_path / "steerer")).on(model):
        assert generate(model, PROMPTS[name][0], Decoding(8)) == steered
