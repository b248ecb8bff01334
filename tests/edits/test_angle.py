import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.errors import ParameterError
from tests.edits import oracle
from tests.edits.test_methods import SEEDS, WIDTHS, draw

ANGLES = st.floats(1, 179)


def angle_between(h: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    along = h @ (d / d.norm())
    across = (h - along.unsqueeze(-1) * d / d.norm()).norm(dim=-1)
    return torch.rad2deg(torch.atan2(across, along))


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, degrees=ANGLES)
def test_the_map_is_a_rotation_in_the_span_of_activation_and_direction(d_model, seed, degrees):
    d, h = draw(d_model, seed, 1)[0], draw(d_model, seed + 1)
    expected = [oracle.angle_in_span(x, d.numpy(), degrees) for x in h.numpy()]
    np.testing.assert_allclose(edits.set_angle(d, degrees=degrees)(h), expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, degrees=ANGLES)
def test_the_angle_is_reached_and_the_norm_kept(seed, degrees):
    d, h = draw(9, seed, 1)[0], draw(9, seed + 1)
    edit = edits.set_angle(d, degrees=degrees)
    np.testing.assert_allclose(angle_between(edit(h), d), degrees, rtol=1e-9)
    np.testing.assert_allclose(edit(h).norm(dim=-1), h.norm(dim=-1), rtol=1e-12)
    np.testing.assert_allclose(edit(edit(h)), edit(h), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degrees", [0.01, 1.0, 90.0, 179.99])
def test_what_is_parallel_to_the_direction_is_left_as_it_is(dtype, degrees):
    """It spans no plane with it; also when parallel only up to rounding, and when zero."""
    d = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=dtype)
    h = torch.tensor([[3.0], [-0.7], [1e-3], [1e4], [0.0]], dtype=dtype) * d
    assert torch.equal(edits.set_angle(d, degrees=degrees)(h), h)
    h = draw(500, 1)
    assert torch.equal(edits.set_angle(torch.zeros(500), degrees=degrees)(h), h), "a zero direction"


def test_angles_may_differ_by_row():
    d, h = draw(8, 0, 1)[0], draw(8, 1, 6).reshape(3, 2, 8)
    angles = torch.tensor([10.0, 90.0, 170.0], dtype=torch.float64)
    found = angle_between(edits.set_angle(d, degrees=angles)(h), d)
    np.testing.assert_allclose(found, angles.unsqueeze(-1).expand(3, 2), rtol=1e-10)


@pytest.mark.parametrize("degrees", [0, 180, -20.0, 200.0, float("nan"), torch.tensor([90.0, 0.0]), torch.ones(2, 2)])
def test_angles_outside_the_open_half_turn_are_refused(degrees):
    with pytest.raises(ParameterError, match="strictly between 0 and 180"):
        edits.set_angle(torch.ones(4), degrees=degrees)
