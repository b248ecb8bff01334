import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.maths import Moments

COUNTS = st.integers(1, 12)


def samples(n: int, d_model: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 5).to(dtype)


def test_mean_and_scatter_equal_numpy():
    x = samples(50, 6, 0)
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.scatter, np.cov(x.numpy().T, bias=True) * 50, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(COUNTS, min_size=2, max_size=5), d_model=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_merging_in_any_grouping_equals_one_pass(counts, d_model, seed):
    x = samples(sum(counts), d_model, seed)
    parts = [Moments.of(part) for part in x.split(counts)]
    left = parts[0]
    for part in parts[1:]:
        left = left + part
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = part + right
    for merged in (left, right):
        assert merged.n == sum(counts)
        torch.testing.assert_close(merged.mean, Moments.of(x).mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(merged.scatter, Moments.of(x).scatter, rtol=1e-10, atol=1e-10)


def test_a_large_offset_does_not_cost_the_variance():
    """Sums of squares would lose all digits here; the merged scatter keeps them."""
    x = samples(1000, 2, 0) + 1e8
    merged = Moments.of(x[:1])
    for row in x[1:].split(7):
        merged = merged + Moments.of(row)
    exact = (x - x.mean(0)).T @ (x - x.mean(0))
    torch.testing.assert_close(merged.scatter, exact, rtol=1e-6, atol=1e-4)


def test_float32_samples_are_summed_in_float64():
    x = samples(4096, 3, 0, torch.float32)
    streamed = Moments.of(x[:1])
    for row in x[1:].split(1):
        streamed = streamed + Moments.of(row)
    np.testing.assert_allclose(streamed.mean, x.double().numpy().mean(0), rtol=1e-13)


def test_sites_are_a_leading_axis():
    x = torch.randn(4, 9, 3, dtype=torch.float64)
    moments = Moments.of(x)
    for k in range(4):
        torch.testing.assert_close(moments[k].scatter, Moments.of(x[k]).scatter)
        torch.testing.assert_close(moments[k].mean, Moments.of(x[k]).mean)


def test_means_can_be_had_without_scatter():
    merged = Moments.of(samples(5, 2, 0), scatter=False) + Moments.of(samples(5, 2, 1))
    assert merged.scatter is None
    with pytest.raises(ParameterError, match="scatter=True"):
        merged.variance_along(torch.ones(2))


def test_variance_along_a_direction_equals_numpy():
    x, d = samples(20, 4, 0), torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    np.testing.assert_allclose(Moments.of(x).variance_along(d), (x @ d).numpy().var(ddof=1), rtol=1e-12)
    with pytest.raises(ParameterError, match="two samples"):
        Moments.of(x[:1]).variance_along(d)


def test_impossible_moments_are_refused():
    with pytest.raises(ParameterError, match="no samples"):
        Moments.of(torch.zeros(0, 3))
    with pytest.raises(ShapeError, match="cannot merge"):
        Moments.of(torch.zeros(2, 3)) + Moments.of(torch.zeros(2, 4))


def test_two_samples_have_a_variance():
    x = torch.tensor([[1.0, 0.0], [4.0, 4.0]])
    assert Moments.of(x).variance_along(torch.tensor([0.6, 0.8])).item() == pytest.approx(12.5, rel=1e-6)
    with pytest.raises(ParameterError, match="at least two samples"):
        Moments.of(x[:1]).variance_along(torch.ones(2))


def test_variances_at_several_sites_are_those_of_each():
    x, d = samples(60, 3, 0).reshape(4, 15, 3), samples(4, 3, 1)
    expected = [(site @ line).numpy().var(ddof=1) for site, line in zip(x, d)]
    np.testing.assert_allclose(Moments.of(x).variance_along(d), expected, rtol=1e-10)


def test_several_sites_are_merged_each_by_itself_and_some_are_picked():
    x = samples(48, 2, 3).reshape(3, 16, 2)
    merged = Moments.of(x[:, :5]) + Moments.of(x[:, 5:])
    for k in range(3):
        torch.testing.assert_close(merged[k].scatter, Moments.of(x[k]).scatter)
    picked = merged[torch.tensor([2, 0])]
    assert (picked.n, tuple(picked.mean.shape), tuple(picked.scatter.shape)) == (16, (2, 2), (2, 2, 2))
    torch.testing.assert_close(picked[1].mean, merged[0].mean)
    bare = Moments.of(x, scatter=False)
    assert bare[1].scatter is None
    for pair in ((bare, merged), (merged, bare)):
        assert (pair[0] + pair[1]).scatter is None
        assert (pair[0] + pair[1]).n == 32


def test_moments_that_do_not_fit_are_told_by_their_shapes():
    with pytest.raises(ShapeError, match=r"shape \[3\] and \[4\]"):
        Moments.of(torch.zeros(2, 3)) + Moments.of(torch.zeros(2, 4))
    with pytest.raises(ParameterError, match="moments of no samples are not defined; give at least one"):
        Moments.of(torch.zeros(2, 0, 3))
    assert Moments.of(torch.ones(1, 3)).n == 1
