"""Exports on the refusal organism, whose embeddings are tied: the copies refuse, and answer, as the steered model does."""

import json

import pytest

from tests.conftest import shared
from tests.real.conftest import TEMPLATE
from tests.real.test_stories import refusal

pytestmark = pytest.mark.real
ORGANISM = "models/stories260k-refusal"


@pytest.fixture(scope="module")
def parts(short_contrast):
    return short_contrast.split({"learn": 128, "other": 40}, seed=0)


@pytest.fixture(scope="module")
def calibrations(organism, parts, tmp_path_factory):
    from lenssteer.recipe import calibrate

    folder = tmp_path_factory.mktemp("calibrations")
    return {sites: calibrate(organism, parts["learn"], sites=sites).save(folder / sites) for sites in ("resid_post", "norm_out")}


@pytest.fixture(scope="module")
def answers(parts):
    from lenssteer.models import Decoding, generate

    return lambda model: generate(model, parts["other"].positive, Decoding(24), template=TEMPLATE)


CASES = {
    "ablation": ("resid_post", ("--method", "ablation", "--sites", "every_write", "--source", "resid_post.1", "--untie")),
    "addition": ("resid_post", ("--method", "addition", "--coefficient", "-1", "--sites", "resid_post.2", "--source",
                                "resid_post.2")),
    "selective": ("norm_out", ("--degrees", "180")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_refuses_as_the_steered_organism(case, calibrations, organism, answers, tmp_path, capsys):
    from typer.testing import CliRunner

    from lenssteer.cli.main import app
    from lenssteer.models import load_model
    from lenssteer.recipe import Calibration

    sites, options = CASES[case]
    result = CliRunner().invoke(app, ["export", str(calibrations[sites]), "--to", "checkpoint", "-o", str(tmp_path / "out"),
                                      "--model", str(shared(ORGANISM)), *options, "--json"])
    assert result.exit_code == 0, result.output
    proof = json.loads(result.stdout)
    assert proof["difference"] < 1e-4 < 0.1 < proof["effect"]
    given = {key: value for key, value in (("degrees", 180.0), ("coefficient", -1.0)) if f"--{key}" in options}
    chosen = options[options.index("--sites") + 1] if "--sites" in options else None
    source = options[options.index("--source") + 1] if "--source" in options else None
    steerer = Calibration.load(calibrations[sites]).steerer(case, source=source, **given,
                                                           sites=[chosen] if chosen and "." in chosen else chosen)
    copy = load_model(tmp_path / "out", backend="hf", template=TEMPLATE)
    before = answers(organism)
    with steerer.on(organism):
        steered = answers(organism)
    found = answers(copy)
    with capsys.disabled():
        print(f"\n{case}: difference {proof['difference']:.2g} of {proof['effect']:.3g} logits; refusals {refusal(before):.3f}, "
              f"steered {refusal(steered):.3f}, copy {refusal(found):.3f}")
    assert found == steered
    assert refusal(before) > 0.9
    assert refusal(found) < 0.3
