import math
from types import SimpleNamespace

import pytest
import torch

from lenssteer import edits
from lenssteer.errors import ParameterError
from lenssteer.evals import Reference, calibrate_strength
from lenssteer.site import Site
from lenssteer.steering import Steerer

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?"]
SITE = Site(3, "resid_post")
STEERER = Steerer({SITE: edits.add(torch.ones(4))})


class Curve(Reference):
    """A reference whose KL is a given function of the strength."""

    def __init__(self, curve):
        object.__setattr__(self, "curve", curve)

    def divergence(self, steerer=None):
        return SimpleNamespace(mean=self.curve(steerer.provenance["strength"]))


@pytest.mark.parametrize("curve", [lambda s: s * s, lambda s: 0.01 * s * s, lambda s: 50 * s**2, math.expm1, math.sqrt,
                                   lambda s: 3 * math.tanh(s / 8) ** 4, lambda s: max(0.0, s - 2.9) ** 3])
@pytest.mark.parametrize("target", [0.05, 0.5, 2.0])
def test_the_crossing_of_a_known_curve_is_found(curve, target):
    """Oracle: plain bisection to machine precision."""
    low, high = 0.0, 64.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if curve(middle) < target else (low, middle)
    found = calibrate_strength(STEERER, Curve(curve), target_kl=target, tolerance=0.01)
    assert found.reached
    assert found.kl == curve(found.strength) == pytest.approx(target, rel=0.01)
    assert found.strength == pytest.approx(high, rel=0.03)
    assert len(found.trace) <= 16
    assert found.steerer.provenance["strength"] == found.strength


def test_the_first_crossing_is_taken_where_kl_is_not_monotone():
    curve = lambda s: math.sin(s / 4) ** 2  # noqa: E731
    found = calibrate_strength(STEERER, Curve(curve), target_kl=0.5, tolerance=0.01)
    assert found.strength == pytest.approx(math.pi, rel=0.02)


def test_a_target_out_of_reach_gives_the_cap():
    flat = Curve(lambda s: 1 - math.exp(-s))
    for high, cap in ((None, 64.0), (3.0, 3.0), (0.25, 0.25)):
        found = calibrate_strength(STEERER, flat, target_kl=2.0, high=high)
        assert (found.strength, found.kl, found.reached) == (cap, flat.curve(cap), False)


def test_a_jump_over_the_target_is_not_reached():
    found = calibrate_strength(STEERER, Curve(lambda s: float(s > 1.7)), target_kl=0.4)
    assert not found.reached
    assert found.kl == 0.0
    assert len(found.trace) <= 40


def test_high_and_low_bound_every_run():
    found = calibrate_strength(STEERER, Curve(lambda s: s * s), target_kl=6.0, low=2.0, high=2.5)
    assert found.reached
    assert all(2.0 <= strength <= 2.5 for strength, _ in found.trace)


@pytest.mark.parametrize("change", [{"target_kl": 0.0}, {"target_kl": float("nan")}, {"low": -1.0}, {"low": 2.0, "high": 1.0},
                                    {"tolerance": 0.0}, {"high": float("inf")}, {"low": 2.0, "target_kl": 1.0}])
def test_bad_requests_are_refused(change):
    with pytest.raises(ParameterError):
        calibrate_strength(STEERER, Curve(lambda s: s * s), **{"target_kl": 9.0, **change})


@pytest.mark.parametrize("target", [0.05, 0.5])
def test_a_real_steerer_is_matched_to_a_target(demo, target):
    """Oracle: the divergence of an addition made with the found coefficient."""
    vector = torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0))
    reference = Reference.of(demo, PROMPTS, tokens=4)
    found = calibrate_strength(Steerer({SITE: edits.add(vector)}), reference, target_kl=target)
    assert found.reached
    again = reference.divergence(Steerer({SITE: edits.add(vector, found.strength)})).mean
    assert found.kl == pytest.approx(again, rel=1e-4) == pytest.approx(target, rel=0.05)
    by_function = calibrate_strength(lambda s: Steerer({SITE: edits.add(vector, s)}), reference, target_kl=target)
    assert by_function.reached
    assert by_function.strength == pytest.approx(found.strength, rel=0.05)
    assert len(found.trace) <= 9
