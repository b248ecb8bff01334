import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer.directions import Direction, combine, find_directions, orthogonalise
from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.site import Site
from tests.directions.planted import SITES, evidence

SEEDS = st.integers(0, 10**6)


def three(seed: int = 0) -> list[Direction]:
    """Directions of one contrast at one site."""
    whole = evidence(seed=seed, signal=0.7)
    return [find_directions(name, whole).direction(SITES[1]) for name in ("mean_difference", "fisher", "class_pca")]


def holds(direction: Direction, seed: int = 0) -> None:
    """Unit length, and the projections of the class means."""
    whole = evidence(seed=seed, signal=0.7)
    assert direction.vector.norm().item() == pytest.approx(1)
    assert direction.positive == pytest.approx((whole.positive.mean[1] @ direction.vector).item(), abs=1e-9)
    assert direction.negative == pytest.approx((whole.negative.mean[1] @ direction.vector).item(), abs=1e-9)
    assert direction.site == SITES[1]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, weights=st.lists(st.floats(0.1, 5), min_size=3, max_size=3))
def test_steering_vectors_add(seed, weights):
    parts = three(seed)
    weights[1] = -weights[1]
    total = combine(parts, weights)
    expected = sum(weight * part.raw.numpy() for weight, part in zip(weights, parts))
    np.testing.assert_allclose(total.raw, expected, rtol=1e-9, atol=1e-9)
    holds(total, seed)


def test_one_direction_with_weight_one_is_itself():
    one = three()[0]
    same = combine([one], [1])
    torch.testing.assert_close(same.raw, one.raw)
    assert same.length == pytest.approx(one.length)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_what_is_left_is_at_right_angles_to_what_was_removed(seed):
    keep, *others = three(seed)
    left = orthogonalise(keep, others)
    for other in others:
        assert left.vector @ other.vector == pytest.approx(0, abs=1e-10)
    q = np.linalg.qr(np.stack([other.vector.numpy() for other in others]).T)[0]
    np.testing.assert_allclose(left.raw, keep.raw.numpy() - q @ (q.T @ keep.raw.numpy()), atol=1e-9)
    holds(left, seed)


def test_against_nothing_and_against_nearly_parallel_directions():
    keep, other, third = three()
    assert orthogonalise(keep, []) is keep
    nudged = other.vector + 1e-7 * third.vector
    twin = Direction(nudged / nudged.norm(), other.site, 1.0, 0.0, 0.0)
    left = orthogonalise(keep, [other, twin])
    for each in (other.vector, third.vector):
        assert left.vector @ each == pytest.approx(0, abs=1e-6)


def test_sums_that_do_not_exist_are_refused():
    one, two, _ = three()
    with pytest.raises(DirectionError, match=r"nothing is left.*cancel"):
        combine([one, one], [1, -1])
    with pytest.raises(DirectionError, match="nothing is left"):
        orthogonalise(one, [one])
    with pytest.raises(ParameterError, match="2 directions and 1 weights"):
        combine([one, two], [1.0])
    with pytest.raises(ParameterError, match="at least one"):
        combine([], [])
    with pytest.raises(ParameterError, match="finite"):
        combine([one], [float("nan")])
    elsewhere = Direction(two.vector, Site(9, "resid_post"), 1.0, 0.0, 0.0)
    with pytest.raises(DirectionError, match=r"resid_post\.9"):
        combine([one, elsewhere], [1, 1])
    with pytest.raises(DirectionError, match="one site"):
        orthogonalise(one, [elsewhere])
    with pytest.raises(ShapeError, match="width 9 and 4"):
        combine([one, Direction(torch.ones(4, dtype=torch.float64) / 2, one.site, 1.0, 0.0, 0.0)], [1, 1])
