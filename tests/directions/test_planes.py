from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from lenssteer.directions import (
    PLANES,
    Candidates,
    Evidence,
    Plane,
    candidate_plane,
    find_directions,
    find_plane,
    global_direction,
)
from lenssteer.errors import DirectionError, ParameterError
from tests.directions.planted import SITES, evidence, samples, without_samples

SEEDS = st.integers(0, 10**6)


def found(kind: str, whole: Evidence, finder: str = "mean_difference", seed: int = 0) -> tuple[Plane, Candidates]:
    candidates = find_directions(finder, whole)
    return find_plane(kind, candidates, whole, global_direction(candidates), seed), candidates


def unit_rows(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def within(whole: Evidence, k: int) -> np.ndarray:
    sides = [side[k].numpy() for side in (whole.positive_samples, whole.negative_samples)]
    return sum(len(side) * np.cov(side.T, bias=True) for side in sides)


def same_plane(ours, theirs: np.ndarray) -> bool:
    return subspace_angles(ours.numpy().T, theirs.T).max() < 1e-6


@pytest.mark.parametrize("kind", PLANES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_kind_is_an_orthonormal_pair_with_the_sign_rule(kind, seed):
    plane, candidates = found(kind, evidence(seed=seed, signal=0.7))
    torch.testing.assert_close(plane.basis @ plane.basis.T, torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert plane.kind == kind
    assert plane.source == global_direction(candidates).site
    if kind != "random":
        assert plane.basis[1][plane.basis[1].abs().argmax()] > 0
        assert plane.basis[0] @ global_direction(candidates).vector > 0, "b1 points to the positive class"


def test_the_papers_plane_is_the_default():
    plane, candidates = found("pca", evidence(signal=0.7))
    assert torch.equal(plane.basis, candidate_plane(candidates, global_direction(candidates)).basis)
    assert Plane(plane.basis, plane.source).kind == "pca"


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_leading_plane_holds_most_of_the_candidates_uncentred(seed):
    plane, candidates = found("leading", evidence(seed=seed, signal=0.5))
    unit = candidates.unit.numpy()
    values, vectors = np.linalg.eigh(unit.T @ unit)
    assert same_plane(plane.basis, vectors[:, -2:].T)
    assert ((unit @ plane.basis.numpy().T) ** 2).sum() == pytest.approx(values[-2:].sum())


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_fisher_plane_spans_difference_and_discriminant(seed):
    whole = evidence(seed=seed, signal=0.7)
    plane, candidates = found("fisher", whole, "class_pca")
    k = candidates.index(plane.source)
    difference = (whole.positive.mean[k] - whole.negative.mean[k]).numpy()
    pooled = within(whole, k) / 80
    shrunk = 0.9 * pooled + 0.1 * np.trace(pooled) / 9 * np.eye(9)
    np.testing.assert_allclose(plane.basis[0], unit_rows(difference), atol=1e-10)
    assert same_plane(plane.basis, np.stack([difference, np.linalg.solve(shrunk, difference)]))


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_no_nearby_plane_is_closer_to_the_sites_than_the_karcher_plane(seed):
    whole = evidence(seed=seed, signal=0.7)
    plane, candidates = found("karcher", whole)
    sites = [np.linalg.qr(np.stack([candidates.unit[k].numpy(), np.linalg.eigh(within(whole, k))[1][:, -1]]).T)[0]
             for k in range(len(SITES))]

    def cost(basis: np.ndarray) -> float:
        return sum((subspace_angles(basis.T, site) ** 2).sum() for site in sites)

    ours, draw = plane.basis.numpy(), np.random.default_rng(seed)
    for _ in range(10):
        nearby = np.linalg.qr((ours + 1e-3 * draw.standard_normal(ours.shape)).T)[0].T
        assert cost(ours) <= cost(nearby) + 1e-9
    direction = global_direction(candidates).vector.numpy()
    np.testing.assert_allclose(ours[1] @ direction, 0, atol=1e-10)
    np.testing.assert_allclose(ours[0], unit_rows(ours.T @ (ours @ direction)), atol=1e-10)


def test_the_karcher_plane_of_equal_sites_is_their_plane():
    _, positive, negative = samples(signal=0.7)
    same = Evidence.of(SITES, positive[:1].expand(4, -1, -1), negative[:1].expand(4, -1, -1))
    plane, candidates = found("karcher", same)
    expected = np.stack([candidates.unit[0].numpy(), np.linalg.eigh(within(same, 0))[1][:, -1]])
    assert same_plane(plane.basis, expected)


def test_degenerate_sites_do_not_count():
    _, positive, negative = samples(signal=0.7)
    positive[0] = negative[0] = torch.ones_like(positive[0])
    rest = Evidence.of(SITES[1:], positive[1:], negative[1:])
    for kind in ("pca", "leading", "fisher", "karcher"):
        whole_plane, _ = found(kind, Evidence.of(SITES, positive, negative))
        torch.testing.assert_close(whole_plane.basis, found(kind, rest)[0].basis, atol=1e-7, rtol=0)


def test_swapping_classes_flips_the_first_axis_only():
    _, positive, negative = samples(signal=0.7)
    for kind in ("pca", "leading", "fisher", "karcher"):
        plane, swapped = (found(kind, Evidence.of(SITES, *sides))[0].basis
                          for sides in ((positive, negative), (negative, positive)))
        torch.testing.assert_close(swapped, torch.stack([-plane[0], plane[1]]), atol=1e-7, rtol=0)


def test_the_leading_axis_lies_on_the_side_of_the_direction():
    whole = evidence(signal=0.7)
    plane, candidates = found("leading", whole)
    best = global_direction(candidates)
    other = find_plane("leading", candidates, whole, replace(best, vector=-best.vector))
    torch.testing.assert_close(other.basis, torch.stack([-plane.basis[0], plane.basis[1]]))


def test_random_planes_are_seeded():
    whole = evidence()
    one, again, other = (found("random", whole, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one.basis, again.basis)
    assert not torch.equal(one.basis, other.basis)


@pytest.mark.parametrize("kind", PLANES)
def test_what_a_kind_needs_is_what_it_says(kind):
    bare = without_samples(evidence(signal=0.7), scatter=False)
    if PLANES[kind].needs == "scatter":
        with pytest.raises(DirectionError, match=rf"^{kind} needs .*scatter=True"):
            found(kind, bare)
    else:
        assert found(kind, bare)[0].basis.shape == (2, 9)


def test_planes_that_do_not_exist_are_refused():
    with pytest.raises(ParameterError, match=r"unknown plane 'karchr'.*'karcher'\?"):
        found("karchr", evidence())
    _, positive, negative = samples()
    with pytest.raises(DirectionError, match="span no plane"):
        found("leading", Evidence.of(SITES[:1], positive[:1], negative[:1]))
    same = Evidence.of(SITES, positive[:1].expand(4, -1, -1), negative[:1].expand(4, -1, -1))
    with pytest.raises(DirectionError, match="span no plane"):
        found("leading", same)
