import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.errors import ParameterError, ShapeError
from lenssteer.maths import random_plane
from tests.edits import oracle

ANGLES = st.floats(-720, 720, allow_nan=False)
SEEDS = st.integers(0, 10**6)
WIDTHS = st.integers(2, 40)


def draw(d_model: int, seed: int, n: int = 5) -> torch.Tensor:
    return torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 10


def close(actual: torch.Tensor, expected: list[np.ndarray] | torch.Tensor, scale: float = 10.0) -> None:
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=1e-12, atol=1e-12 * scale)


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, degrees=ANGLES)
def test_every_rotation_equals_the_dense_matrices_of_the_papers(d_model, seed, degrees):
    basis, h = random_plane(d_model, seed), draw(d_model, seed + 1)
    close(edits.rotate_by(basis, degrees=degrees)(h), [oracle.rotation_by(x, basis.numpy(), degrees) for x in h.numpy()])
    close(edits.rotate_to(basis, degrees=degrees)(h), [oracle.rotation_to(x, basis.numpy(), degrees) for x in h.numpy()])
    close(edits.rotate_to(basis, degrees=degrees, adaptive=True, threshold=0.3)(h),
          [oracle.adaptive(x, basis.numpy(), degrees, 0.3) for x in h.numpy()])


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, degrees=ANGLES)
def test_rotations_keep_the_norm(d_model, seed, degrees):
    """All three of them: proposition 1 of the Selective Steering paper, that rotating TO violates norms, is false."""
    basis, h = random_plane(d_model, seed), draw(d_model, seed + 1)
    for edit in (edits.rotate_by(basis, degrees=degrees), edits.rotate_to(basis, degrees=degrees),
                 edits.rotate_to(basis, degrees=degrees, adaptive=True)):
        close(edit(h).norm(dim=-1), h.norm(dim=-1), 100)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, one=ANGLES, two=ANGLES)
def test_rotations_by_add_up(seed, one, two):
    basis, h = random_plane(12, seed), draw(12, seed)
    twice = edits.rotate_by(basis, degrees=two)(edits.rotate_by(basis, degrees=one)(h))
    close(twice, edits.rotate_by(basis, degrees=one + two)(h), 100)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, degrees=ANGLES)
def test_rotating_to_an_angle_twice_is_rotating_once(seed, degrees):
    basis, h = random_plane(12, seed), draw(12, seed)
    edit = edits.rotate_to(basis, degrees=degrees)
    close(edit(edit(h)), edit(h), 100)


def test_degrees_zero_is_the_identity_for_by_but_not_for_to():
    basis, h = random_plane(8, 0), draw(8, 0)
    assert torch.equal(edits.rotate_by(basis, degrees=0)(h), h)
    assert torch.equal(edits.rotate_by(basis, degrees=360)(h), h)
    assert (edits.rotate_to(basis, degrees=0)(h) - h).norm() > 1


def test_ninety_degrees_take_b1_to_b2():
    basis = torch.eye(2, 5, dtype=torch.float64)
    b1, b2 = basis
    close(edits.rotate_by(basis, degrees=90)(b1), b2)
    close(edits.rotate_by(basis, degrees=-90)(b2), b1)
    close(edits.rotate_to(basis, degrees=90)(b1), b2)


def test_what_is_outside_the_plane_stays():
    basis, h = random_plane(8, 0), draw(8, 0)
    outside = h - h @ basis.T @ basis
    close(edits.rotate_by(basis, degrees=77)(outside), outside)


def test_the_adaptive_gate_is_strict():
    basis = torch.eye(2, 3, dtype=torch.float64)
    on_boundary = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    above = torch.tensor([1e-9, 1.0, 0.0], dtype=torch.float64)
    edit = edits.rotate_to(basis, degrees=180, adaptive=True)
    assert torch.equal(edit(on_boundary), on_boundary)
    assert not torch.equal(edit(above), above)
    at_threshold = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    strict = edits.rotate_to(basis, degrees=180, adaptive=True, threshold=2.0)
    assert torch.equal(strict(at_threshold), at_threshold)


def test_degrees_may_differ_by_row():
    basis, h = random_plane(8, 0), draw(8, 0, 3).unsqueeze(1)
    angles = torch.tensor([0.0, 90.0, 200.0])
    for make in (edits.rotate_by, edits.rotate_to):
        alone = torch.stack([make(basis, degrees=angle.item())(row) for angle, row in zip(angles, h, strict=True)])
        close(make(basis, degrees=angles)(h), alone)


def test_a_basis_that_is_not_orthonormal_is_refused():
    basis = random_plane(8, 0)
    for bad in (basis * 1.01, torch.stack([basis[0], basis[0]]), basis[:1], torch.zeros(2, 8)):
        with pytest.raises(ShapeError, match="basis"):
            edits.rotate_by(bad, degrees=10)
    with pytest.raises(ShapeError, match="float32"):
        edits.rotate_to(basis.to(torch.bfloat16) * 1.003, degrees=10)


@pytest.mark.parametrize("degrees", [float("nan"), float("inf"), torch.zeros(2, 2)])
def test_angles_that_are_not_numbers_are_refused(degrees):
    with pytest.raises(ParameterError, match="degrees"):
        edits.rotate_by(random_plane(8, 0), degrees=degrees)


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS)
def test_ablation_equals_the_projection_formula(d_model, seed):
    d, center, h = draw(d_model, seed, 1)[0], draw(d_model, seed + 1, 1)[0], draw(d_model, seed + 2)
    close(edits.ablate(d)(h), [oracle.ablation(x, d.numpy()) for x in h.numpy()])
    expected = [oracle.ablation(x, d.numpy(), center.numpy()) for x in h.numpy()]
    close(edits.ablate(d, center=center)(h), expected)
    component = (center @ d / d.norm()).item()
    close(edits.ablate(d, center=component)(h), expected)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_ablation_is_idempotent_and_leaves_no_component(seed):
    d, h = draw(9, seed, 1)[0], draw(9, seed + 1)
    edit = edits.ablate(d)
    close(edit(edit(h)), edit(h))
    close(edit(h) @ (d / d.norm()), torch.zeros(5))
    close(edits.ablate(3 * d)(h), edit(h))


def test_centres_may_differ_by_row():
    d, h = draw(6, 0, 1)[0], draw(6, 1, 3).unsqueeze(1)
    centers = draw(6, 2, 3)
    alone = torch.stack([edits.ablate(d, center=c)(row) for c, row in zip(centers, h, strict=True)])
    close(edits.ablate(d, center=centers)(h), alone)
    numbers = centers @ (d / d.norm())
    close(edits.ablate(d, center=numbers)(h), alone)


def test_zero_directions_are_no_ops():
    h = draw(6, 0)
    for edit in (edits.ablate(torch.zeros(6)), edits.ablate(torch.zeros(6), center=3.0), edits.add(torch.zeros(6)),
                 edits.ablate(torch.zeros(6), center=torch.ones(6))):
        assert torch.equal(edit(h), h)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, coefficient=st.floats(-50, 50))
def test_addition_moves_by_the_raw_vector_and_back(seed, coefficient):
    v, h = draw(7, seed, 1)[0], draw(7, seed + 1)
    close(edits.add(v, coefficient)(h), h.numpy() + coefficient * v.numpy(), 1000)
    close(edits.add(v, -coefficient)(edits.add(v, coefficient)(h)), h, 1000)
    close(edits.add(v)(h), (h + v).numpy())


def test_coefficients_may_differ_by_row():
    v, h = draw(7, 0, 1)[0], draw(7, 1, 3).unsqueeze(1)
    close(edits.add(v, torch.tensor([1.0, 0.0, -2.0]))(h)[2, 0], (h[2, 0] - 2 * v).numpy())
    with pytest.raises(ParameterError, match="coefficient"):
        edits.add(v, float("nan"))


def test_half_precision_vectors_are_read_in_float32():
    v = torch.randn(8).to(torch.bfloat16)
    assert edits.add(v).write.dtype == torch.float32
    assert edits.ablate(v).read.dtype == torch.float32


def test_a_row_whose_direction_is_zero_is_left_alone():
    d, h = draw(6, 0, 1)[0], draw(6, 1, 3).unsqueeze(1)
    directions = torch.stack([d, 0 * d, -2 * d])
    for center in (3.0, torch.tensor([3.0, 3.0, 3.0]), torch.ones(6)):
        new = edits.ablate(directions, center=center)(h)
        assert torch.equal(new[1], h[1])
        kept = center if not isinstance(center, torch.Tensor) else 3.0 if center.numel() == 3 else (d / d.norm()).sum().item()
        np.testing.assert_allclose((new[0] @ (d / d.norm())).item(), kept, rtol=1e-9)
