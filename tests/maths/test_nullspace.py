import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space as scipy_null_space

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.maths import Moments, null_space, second_moment


def low_rank_data(n: int = 60, d_model: int = 40, rank: int = 10, seed: int = 0) -> torch.Tensor:
    """Samples with a mean far from zero, inside a subspace of `rank` dimensions."""
    draw = torch.Generator().manual_seed(seed)
    inside = torch.randn(n, rank, generator=draw, dtype=torch.float64) + 2
    return inside @ torch.randn(rank, d_model, generator=draw, dtype=torch.float64)


def planted(singular: list[float], n: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples with given singular values, and their right singular vectors as columns."""
    draw = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(n, len(singular), generator=draw, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(len(singular), len(singular), generator=draw, dtype=torch.float64))
    return left * torch.tensor(singular, dtype=torch.float64) @ right.T, right


def projector(basis: torch.Tensor) -> np.ndarray:
    return (basis @ basis.T).numpy()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 20), d_model=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_the_second_moment_is_the_uncentred_gram_matrix(n, d_model, seed):
    x = torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 4
    np.testing.assert_allclose(second_moment(Moments.of(x)), x.numpy().T @ x.numpy(), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("of", [Moments.of, torch.clone], ids=["moments", "samples"])
@pytest.mark.parametrize(("rule", "expected"), [
    ({"ratio": 0.5}, 3), ({"ratio": 0.49}, 2),
    ({"energy": 14 / 171}, 3), ({"energy": 13.9 / 171}, 2), ({"energy": 0.99 / 171}, 0),
    ({"tolerance": 0.3}, 3), ({"tolerance": 0.29}, 2), ({"tolerance": 0.05}, 0),
])
def test_every_rule_counts_planted_singular_values(of, rule, expected):
    """Squares 1, 4, 9, 16, 41, 100 sum to 171."""
    singular = [1.0, 2.0, 3.0, 4.0, 41**0.5, 10.0]
    x, right = planted(singular)
    rule = {name: value * (1 + 1e-9) for name, value in rule.items()}
    if expected == 0:
        with pytest.raises(ParameterError, match="leaves no direction"):
            null_space(of(x), **rule)
        return
    found = null_space(of(x), **rule)
    np.testing.assert_allclose(projector(found), projector(right[:, :expected]), atol=1e-10)
    np.testing.assert_allclose(found.T @ found, np.eye(expected), atol=1e-12)
    np.testing.assert_allclose((x @ found).norm(dim=0), singular[:expected], rtol=1e-9, err_msg="by growing value")


@pytest.mark.parametrize("n", [1, 7, 60])
@pytest.mark.parametrize("rule", [{"tolerance": 1e-6}, {"energy": 1e-12}])
def test_an_exact_null_space_is_scipys(n, rule):
    """Fewer samples than dimensions and more."""
    x = low_rank_data(n, 14, 5)
    theirs = scipy_null_space(x.numpy())
    for data in (x, Moments.of(x)):
        found = null_space(data, **rule)
        assert found.shape == theirs.shape
        np.testing.assert_allclose(projector(found), theirs @ theirs.T, atol=1e-6)


def test_a_true_nullity_of_30_of_40_is_found():
    """Square roots of Gram singular values stop at about 1e-8 of the largest: at rounding level they show nothing."""
    x = low_rank_data()
    for data, tolerance in ((x, 1e-12), (Moments.of(x), 1e-7)):
        found = null_space(data, tolerance=tolerance)
        assert found.shape == (40, 30)
        assert (x @ found).abs().max() < 1e-6 * x.abs().max()
    rooted = np.sqrt(np.linalg.svd(x.numpy().T @ x.numpy(), compute_uv=False))
    at_rounding = np.finfo(float).eps * 60
    assert (rooted <= at_rounding * rooted[0]).sum() < 30, "the trap"
    assert (np.linalg.svd(x.numpy(), compute_uv=False) <= at_rounding * rooted[0]).sum() == 30


def test_what_moments_cannot_resolve_samples_can():
    x, right = planted([1e-11, 1e-9, 1.0, 2.0])
    with pytest.raises(ParameterError, match="give the samples themselves"):
        null_space(Moments.of(x), tolerance=1e-10)
    found = null_space(x, tolerance=1e-10)
    assert found.shape == (4, 1)
    assert abs(found[:, 0] @ right[:, 0]) == pytest.approx(1)


@pytest.mark.parametrize("rules", [{}, {"ratio": 0.5, "energy": 0.1}, {"ratio": 0.5, "energy": 0.1, "tolerance": 0.1}])
def test_exactly_one_rule(rules):
    with pytest.raises(ParameterError, match="exactly one of ratio, energy and tolerance"):
        null_space(low_rank_data(), **rules)


@pytest.mark.parametrize("value", [-0.1, 1, float("nan")])
@pytest.mark.parametrize("rule", ["ratio", "energy", "tolerance"])
def test_rules_out_of_range_are_refused(rule, value):
    with pytest.raises(ParameterError, match=rf"{rule} must lie in \[0, 1\)"):
        null_space(low_rank_data(), **{rule: value})


def test_data_without_a_null_space_to_speak_of_is_refused():
    x = low_rank_data()
    with pytest.raises(ParameterError, match="scatter=True"):
        null_space(Moments.of(x, scatter=False), ratio=0.5)
    with pytest.raises(ParameterError, match="not finite"):
        null_space(x * float("nan"), ratio=0.5)
    with pytest.raises(ShapeError, match="Pick one"):
        null_space(Moments.of(torch.stack([x, x])), ratio=0.5)


def test_what_is_exactly_at_the_limit_is_in():
    """Singular values that are exact: all one, and one and two."""
    assert null_space(torch.eye(4), energy=0.5).shape == (4, 2)
    assert null_space(torch.eye(4), ratio=0.5).shape == (4, 2)
    assert null_space(torch.diag(torch.tensor([1.0, 2.0])), tolerance=0.5).shape == (2, 1)
    assert null_space(torch.diag(torch.tensor([0.0, 2.0])), tolerance=0).shape == (2, 1)
    assert null_space(torch.diag(torch.tensor([0.0, 2.0])), energy=0).shape == (2, 1)
    for rule in ({"ratio": 0}, {"tolerance": 0.49}, {"energy": 0.19}):
        with pytest.raises(ParameterError, match="leaves no direction in the null space; give a larger one"):
            null_space(torch.diag(torch.tensor([1.0, 2.0])), **rule)


def test_samples_in_float32_are_decomposed_in_float64():
    x = low_rank_data(20, 8, 3).float()
    found = null_space(x, tolerance=1e-5)
    assert found.dtype == torch.float64
    torch.testing.assert_close(projection := found @ found.T, projection @ projection, atol=1e-14, rtol=0)


@pytest.mark.parametrize(("n", "d_model"), [(3, 3), (3, 4), (4, 3), (1, 5)])
def test_any_shape_has_as_many_directions_as_dimensions(n, d_model):
    x = torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = null_space(x, ratio=0.999)
    assert found.shape == (d_model, int(d_model * 0.999))
    lengths = (x @ found).norm(dim=0)
    assert (lengths.diff() > -1e-12).all()


def test_what_is_wrong_is_told():
    x = low_rank_data(20, 8, 3)
    with pytest.raises(ParameterError, match="exactly one of ratio, energy and tolerance; got none"):
        null_space(x)
    with pytest.raises(ParameterError, match="got ratio, tolerance"):
        null_space(x, ratio=0.1, tolerance=0.1)
    with pytest.raises(ParameterError, match=r"tolerance 9e-08 cannot be resolved from moments, only 1e-07 and more"):
        null_space(Moments.of(x), tolerance=9e-8)
    with pytest.raises(ParameterError, match=r"ratio must lie in \[0, 1\), got 1"):
        null_space(x, ratio=1)
    with pytest.raises(ParameterError, match=r"ratio=0\.05 leaves no direction"):
        null_space(x, ratio=0.05)
    with pytest.raises(ShapeError, match="got 2 leading axes"):
        null_space(Moments.of(x.expand(2, 3, 20, 8)), ratio=0.5)
    with pytest.raises(ParameterError, match="scatter=True"):
        second_moment(Moments.of(x, scatter=False))


def test_second_moments_of_several_sites_are_those_of_each():
    x = low_rank_data(24, 4, 3).reshape(2, 12, 4)
    np.testing.assert_allclose(second_moment(Moments.of(x)), [site.T @ site for site in x.numpy()], rtol=1e-10)
