import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lenssteer.errors import DirectionError
from lenssteer.maths import geometric_median, robust


def points(n: int, d_model: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 5


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 25), d_model=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_no_other_point_is_nearer_to_all_samples(n, d_model, seed):
    x = points(n, d_model, seed).numpy()

    def cost(y):
        return np.linalg.norm(x - y, axis=1).sum()

    ours = geometric_median(torch.from_numpy(x)).numpy()
    assert cost(ours) <= minimize(cost, x.mean(0), method="BFGS").fun + 1e-7
    assert cost(ours) <= min(cost(sample) for sample in x) + 1e-7


def test_on_a_line_it_is_the_median():
    x = torch.tensor([[0.0], [1.0], [2.0], [50.0], [100.0]])
    torch.testing.assert_close(geometric_median(x), torch.tensor([2.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_start_on_a_sample_is_left_unless_it_is_the_median():
    """The mean of these is a sample: the centre of the first is the median, that of the second is not."""
    cross = torch.tensor([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(cross), torch.zeros(2, dtype=torch.float64))
    uneven = torch.tensor([[0.0, 0], [2, 0], [-1, 0.5], [-1, -0.5]], dtype=torch.float64)
    assert not geometric_median(uneven).any(), "the others pull with less than the one sample that lies here"
    skewed = torch.tensor([[0.0], [1.0], [1.0], [1.0], [-3.0]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(skewed), torch.ones(1, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(geometric_median(torch.ones(4, 3)), torch.ones(3, dtype=torch.float64))


def test_just_under_half_of_the_samples_cannot_carry_it_away():
    x = points(101, 8, 0)
    spoilt = x.clone()
    spoilt[:50] += 1e6
    assert (geometric_median(spoilt) - geometric_median(x)).norm() < 20


def test_a_median_that_is_not_reached_is_refused(monkeypatch):
    monkeypatch.setattr(robust, "MOST_STEPS", 2)
    with pytest.raises(DirectionError, match="did not converge in 2 steps"):
        geometric_median(points(20, 3, 0))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_triangles_median_sees_its_sides_under_120_degrees(scale):
    """Fermat's point, whatever the unit; with an angle of 120 degrees or more it is that corner."""
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]], dtype=torch.float64) * scale
    away = (corners - geometric_median(corners)) / scale
    pairs = torch.cosine_similarity(away, away.roll(1, 0), dim=-1)
    torch.testing.assert_close(pairs, torch.full((3,), -0.5, dtype=torch.float64), atol=1e-8, rtol=0)
    flat = torch.tensor([[0.0, 0.0], [5.0, 0.5], [-5.0, 0.5]], dtype=torch.float64) * scale
    assert geometric_median(flat).abs().max() < 1e-6 * scale
    assert geometric_median(corners.float()).dtype == torch.float64
