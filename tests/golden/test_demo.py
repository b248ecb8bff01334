"""The demo's results are those in Git, on every backend."""

import json

import pytest

from lenssteer.artefacts.comparing import Comparison
from tests.conftest import BACKENDS
from tests.golden.demo import GOLDEN, TOLERANCE, measured


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_the_golden_ones(demo_models, demo_contrast, backend):
    from lenssteer.recipe import calibrate

    found = Comparison(TOLERANCE)
    model = demo_models[backend]
    found.values("", json.loads(GOLDEN.read_text()), measured(model, calibrate(model, demo_contrast, sites="norm_out")))
    assert found.different == []
    assert found.equal + found.within > 150


def test_a_moved_result_is_seen():
    golden = json.loads(GOLDEN.read_text())
    moved = json.loads(GOLDEN.read_text())
    moved["selective"]["centinats"] *= 1.01
    found = Comparison(TOLERANCE)
    found.values("", golden, moved)
    assert [where for where, *_ in found.different] == ["selective.centinats"]
