import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lenssteer.errors import DirectionError
from lenssteer.maths import fix_sign, orthonormalise, plane_of_candidates, principal_component, random_plane

SEEDS = st.integers(0, 10**6)


def unit_rows(n: int, d_model: int, seed: int) -> torch.Tensor:
    draw = torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return draw / draw.norm(dim=-1, keepdim=True)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 20), d_model=st.integers(2, 15), seed=SEEDS)
def test_the_principal_component_is_scikit_learns_up_to_sign(n, d_model, seed):
    points = unit_rows(n, d_model, seed)
    theirs = PCA(n_components=1, svd_solver="full").fit(points.numpy()).components_[0]
    ours = principal_component(points).numpy()
    assert abs(abs(theirs @ ours) - 1) < 1e-9


def test_centring_matters():
    points = torch.tensor([[10.0, 1.0], [10.0, -1.0]])
    torch.testing.assert_close(principal_component(points).abs(), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert principal_component(points, centred=False)[0] > 0.99


def test_the_sign_rule():
    assert torch.equal(fix_sign(torch.tensor([1.0, -2.0])), torch.tensor([-1.0, 2.0]))
    assert torch.equal(fix_sign(torch.tensor([-3.0, 3.0])), torch.tensor([3.0, -3.0])), "the first of equals decides"


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_the_sign_rule_ignores_the_sign_it_is_given(seed):
    v = unit_rows(1, 9, seed)[0]
    assert torch.equal(fix_sign(v), fix_sign(-v))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 20), d_model=st.integers(3, 15), seed=SEEDS)
def test_the_plane_is_the_papers(n, d_model, seed):
    """b1 along the direction, b2 = PC - (PC.b1) b1, computed here from the covariance's eigenvectors."""
    points, first = unit_rows(n, d_model, seed), unit_rows(1, d_model, seed + 1)[0] * 4
    plane = plane_of_candidates(first, points).numpy()
    centred = points.numpy() - points.numpy().mean(0)
    pc = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    b1 = first.numpy() / np.linalg.norm(first.numpy())
    b2 = pc - (pc @ b1) * b1
    b2 /= np.linalg.norm(b2)
    np.testing.assert_allclose(plane[0], b1, atol=1e-12)
    assert abs(abs(plane[1] @ b2) - 1) < 1e-7
    assert plane[1][np.abs(plane[1]).argmax()] > 0
    np.testing.assert_allclose(plane @ plane.T, np.eye(2), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(d_model=st.integers(2, 30), seed=SEEDS)
def test_random_planes_are_orthonormal_and_seeded(d_model, seed):
    plane = random_plane(d_model, seed)
    torch.testing.assert_close(plane @ plane.T, torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.equal(plane, random_plane(d_model, seed))


def test_nearly_parallel_vectors_still_give_an_orthonormal_pair():
    first = torch.ones(6, dtype=torch.float64)
    pair = orthonormalise(first, first + 1e-4 * torch.eye(6, dtype=torch.float64)[0])
    torch.testing.assert_close(pair @ pair.T, torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_planes_that_do_not_exist_are_refused():
    one = torch.ones(3)
    with pytest.raises(DirectionError, match="parallel"):
        orthonormalise(one, -2 * one)
    with pytest.raises(DirectionError, match="not zero"):
        orthonormalise(one, 0 * one)
    with pytest.raises(DirectionError, match="do not spread"):
        principal_component(torch.ones(4, 3))
    with pytest.raises(DirectionError, match="parallel"):
        plane_of_candidates(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    with pytest.raises(DirectionError, match="at least 2"):
        random_plane(1, 0)
