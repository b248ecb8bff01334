"""Planes as points, against principal angles by SciPy and against geodesics written down by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from lenssteer.errors import DirectionError
from lenssteer.maths import grassmann_exp, grassmann_log, karcher_mean

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(4, 12)


def draw_planes(count: int, d_model: int, seed: int, spread: float | None = None) -> torch.Tensor:
    """Orthonormal pairs: anywhere, or within `spread` of one of them."""
    draw = torch.randn(count, 2, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if spread is not None:
        draw = torch.eye(2, d_model, dtype=torch.float64) + spread * draw
    return torch.linalg.qr(draw.mT).Q.mT


def turned(plane: torch.Tensor, seed: int) -> torch.Tensor:
    """Another basis of the same plane, reflected or not."""
    basis = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).Q
    return basis @ plane


def projector(plane: torch.Tensor) -> torch.Tensor:
    return plane.T @ plane


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-8) -> None:
    torch.testing.assert_close(projector(a), projector(b), atol=atol, rtol=0)


@settings(max_examples=30, deadline=None)
@given(d_model=SIZES, seed=SEEDS)
def test_the_logarithm_is_as_long_as_the_principal_angles_and_exp_undoes_it(d_model, seed):
    base, other = draw_planes(2, d_model, seed)
    tangent = grassmann_log(base, other)
    angles = subspace_angles(base.numpy().T, other.numpy().T)
    assert tangent.norm().item() == pytest.approx(np.linalg.norm(angles), abs=1e-7)
    torch.testing.assert_close(tangent @ base.T, torch.zeros(2, 2, dtype=torch.float64), atol=1e-9, rtol=0)
    close(grassmann_exp(base, tangent), other)


@settings(max_examples=30, deadline=None)
@given(d_model=SIZES, seed=SEEDS)
def test_the_basis_of_either_plane_does_not_matter(d_model, seed):
    base, other = draw_planes(2, d_model, seed)
    torch.testing.assert_close(grassmann_log(base, turned(other, seed)), grassmann_log(base, other), atol=1e-8, rtol=0)
    close(grassmann_exp(turned(base, seed), grassmann_log(turned(base, seed), other)), other)


def test_a_geodesic_written_down_by_hand():
    """Both axes of the plane turn into axes of their own, by 0.3 and 0.8."""
    eye = torch.eye(4, dtype=torch.float64)
    tangent = torch.stack([0.3 * eye[2], 0.8 * eye[3]])
    reached = grassmann_exp(eye[:2], tangent)
    expected = torch.stack([np.cos(0.3) * eye[0] + np.sin(0.3) * eye[2], np.cos(0.8) * eye[1] + np.sin(0.8) * eye[3]])
    close(reached, expected, 1e-12)
    torch.testing.assert_close(grassmann_log(eye[:2], expected), tangent, atol=1e-12, rtol=0)
    assert not grassmann_log(eye[:2], turned(eye[:2], 0)).abs().max() > 1e-12


@settings(max_examples=20, deadline=None)
@given(d_model=SIZES, seed=SEEDS)
def test_the_mean_of_two_planes_is_the_midpoint_of_their_geodesic(d_model, seed):
    one, other = draw_planes(2, d_model, seed, spread=0.2)
    mean = karcher_mean(torch.stack([one, other]))
    close(mean, grassmann_exp(one, grassmann_log(one, other) / 2))
    half = subspace_angles(one.numpy().T, other.numpy().T) / 2
    np.testing.assert_allclose(subspace_angles(mean.numpy().T, one.numpy().T), half, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 8), d_model=SIZES, seed=SEEDS)
def test_the_mean_ignores_bases_and_order_and_no_nearby_plane_costs_less(count, d_model, seed):
    planes = draw_planes(count, d_model, seed, spread=0.2)
    mean = karcher_mean(planes)
    torch.testing.assert_close(mean @ mean.T, torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)
    close(karcher_mean(torch.stack([turned(plane, seed + i) for i, plane in enumerate(planes)]).flip(0)), mean)

    def cost(plane: torch.Tensor) -> float:
        return sum(float((subspace_angles(plane.numpy().T, each.numpy().T) ** 2).sum()) for each in planes)

    assert grassmann_log(mean, planes).mean(0).norm() < 1e-8, "the gradient of the cost is zero"
    for step in draw_planes(4, d_model, seed + 1) * 1e-2:
        nearby = grassmann_exp(mean, step - step @ mean.T @ mean)
        assert cost(mean) <= cost(nearby) + 1e-12


def test_the_mean_turns_with_the_space():
    planes = draw_planes(5, 6, 0, spread=0.2)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    close(karcher_mean(planes @ rotation), karcher_mean(planes) @ rotation)


def test_a_mean_that_is_not_reached_is_refused(monkeypatch):
    from lenssteer.maths import grassmann

    monkeypatch.setattr(grassmann, "MOST_STEPS", 1)
    with pytest.raises(DirectionError, match="did not converge in 1 steps"):
        karcher_mean(draw_planes(6, 8, 0))
