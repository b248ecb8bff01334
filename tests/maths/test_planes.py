import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lenssteer import maths
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


def test_the_sign_rule_has_the_name_that_is_recorded():
    assert maths.SIGN_RULE == "largest-entry-positive"
    v = torch.tensor([0.1, -0.7, 0.7 * (1 - 1e-13)], dtype=torch.float64)
    assert torch.equal(fix_sign(v), -v), "the first of those that tie up to rounding"
    assert torch.equal(fix_sign(torch.tensor([0.1, 0.7 * (1 - 1e-10), -0.7], dtype=torch.float64)),
                       torch.tensor([-0.1, -0.7 * (1 - 1e-10), 0.7], dtype=torch.float64)), "and none that is really smaller"


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("centred", [True, False])
def test_points_spread_by_their_own_measure(scale, centred):
    points = unit_rows(6, 4, 0) * scale
    spread = points - points.mean(0) if centred else points
    theirs = np.linalg.svd(spread.numpy())[2][0]
    assert abs(abs(theirs @ principal_component(points, centred=centred).numpy()) - 1) < 1e-9
    far = points + 1e8 * scale
    with pytest.raises(DirectionError, match=r"6 points do not spread.*capture at least two sites"):
        principal_component(far)
    assert principal_component(far, centred=False).min() > 0.49


def test_points_that_are_all_zero_do_not_spread():
    for centred in (True, False):
        with pytest.raises(DirectionError, match="do not spread"):
            principal_component(torch.zeros(3, 2), centred=centred)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_pairs_of_any_length_are_orthonormalised_as_by_hand(scale):
    first, second = scale * torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    rest = np.array([1.0, 0, 2]) - 0.6 * np.array([0.6, 0.8, 0])
    np.testing.assert_allclose(orthonormalise(first, second / scale), [[0.6, 0.8, 0], rest / np.linalg.norm(rest)], atol=1e-15)


@pytest.mark.parametrize(("angle", "accepted"), [(2e-6, True), (5e-7, False)])
def test_vectors_are_parallel_within_a_millionth(angle, accepted):
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    second = torch.tensor([1.0, angle], dtype=torch.float64)
    if accepted:
        torch.testing.assert_close(orthonormalise(first, second), torch.eye(2, dtype=torch.float64), atol=1e-9, rtol=0)
    else:
        with pytest.raises(DirectionError, match="parallel, so they span no plane"):
            orthonormalise(first, second)


def test_random_planes_are_two_normal_draws_orthonormalised():
    draw = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).numpy()
    b1 = draw[0] / np.linalg.norm(draw[0])
    b2 = draw[1] - (draw[1] @ b1) * b1
    np.testing.assert_allclose(random_plane(5, 7), [b1, b2 / np.linalg.norm(b2)], atol=1e-14, rtol=0)
    assert random_plane(2, 0).shape == (2, 2)
    for d_model in (1, 0):
        with pytest.raises(DirectionError, match="a plane needs d_model of at least 2"):
            random_plane(d_model, 0)


def test_either_vector_may_not_be_zero():
    one, zero = torch.tensor([1.0, 2.0]), torch.zeros(2)
    for pair in ((one, zero), (zero, one), (zero, zero)):
        with pytest.raises(DirectionError, match="two vectors that are not zero"):
            orthonormalise(*pair)
