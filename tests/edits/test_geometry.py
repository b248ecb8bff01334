"""What constructors check and prepare."""

import math

import numpy as np
import pytest
import torch

from lenssteer import edits
from lenssteer.edits.geometry import amount, norm_rule, orthonormal, radians, unit, wide
from lenssteer.errors import ParameterError, ShapeError

V = torch.tensor([3.0, -4.0, 0.0, 12.0], dtype=torch.float64)
PLANE = torch.eye(2, 4, dtype=torch.float64)
MADE = {
    "ablate": lambda v, plane, one: edits.ablate(v, center=one),
    "ablate to a point": lambda v, plane, one: edits.ablate(v, center=2 * V),
    "add": lambda v, plane, one: edits.add(v, one),
    "alphasteer": lambda v, plane, one: edits.alphasteer(v, V.flip(0), strength=one),
    "set_angle": lambda v, plane, one: edits.set_angle(v, degrees=30 * one),
    "scale": lambda v, plane, one: edits.scale(v, one),
    "reflect": lambda v, plane, one: edits.reflect(v),
    "clamp": lambda v, plane, one: edits.clamp(v, one),
    "steer_to_target": lambda v, plane, one: edits.steer_to_target(v, boundary=one, target=2 * one, threshold=3 * one),
    "steer_to_mirror": lambda v, plane, one: edits.steer_to_mirror(v, boundary=one, strength=one, threshold=2 * one),
    "rotate_by": lambda v, plane, one: edits.rotate_by(plane, degrees=50 * one),
    "rotate_to": lambda v, plane, one: edits.rotate_to(plane, degrees=50 * one),
    "adaptive": lambda v, plane, one: edits.rotate_to(plane, degrees=50 * one, adaptive=True, threshold=one),
    "gated": lambda v, plane, one: edits.gated(edits.add(v, one), V.flip(0), one),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("rows", [None, 3])
def test_every_array_of_an_edit_has_the_dtype_of_what_it_was_made_from(name, rows):
    """Numbers and second vectors come in float64 throughout; half precision becomes float32."""
    one = torch.tensor(1.5, dtype=torch.float64) if rows is None else torch.tensor([1.5, -0.5, 2.0], dtype=torch.float64).abs()
    h = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = MADE[name](V, PLANE, one)
    for dtype, expected in ((torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)):
        edit = MADE[name](V.to(dtype), PLANE.to(dtype), one)
        assert {tensor.dtype for tensor in edit.tensors().values()} == {expected}
        assert edit.rows == (None if name == "reflect" or (name == "ablate to a point") else rows)
        torch.testing.assert_close(edit(h.float()), exact(h).float(), atol=1e-5, rtol=1e-5)


def test_wide_is_at_least_float32():
    assert [wide(V.to(dtype)).dtype for dtype in (torch.float16, torch.bfloat16, torch.float32)] == [torch.float32] * 3
    assert wide(V) is V


@pytest.mark.parametrize("length", [1.0, 1e-40, 3e37])
def test_directions_of_any_length_become_units(length):
    np.testing.assert_allclose(unit((V / 13).float() * length), V.numpy() / 13, rtol=1e-4)


def test_every_row_of_directions_is_a_unit_by_itself():
    found = unit(torch.stack([V, 0 * V, -1e3 * V]))
    np.testing.assert_allclose(found, [V.numpy() / 13, np.zeros(4), -V.numpy() / 13], atol=1e-15)
    short = unit(torch.stack([V, V]).float() * torch.tensor([[1e-30], [1e30]]))
    np.testing.assert_allclose(short, [V.numpy() / 13] * 2, rtol=1e-6)


def test_directions_that_are_not_finite_are_refused():
    for bad in (math.nan, math.inf):
        with pytest.raises(ParameterError, match="direction holds values that are not finite"):
            unit(torch.tensor([1.0, bad]))


@pytest.mark.parametrize(("off", "accepted"), [(0.9e-4, True), (1.1e-4, False), (math.nan, False)])
def test_a_plane_is_orthonormal_to_a_ten_thousandth(off, accepted):
    basis = torch.tensor([[1.0, 0.0, 0.0], [off, 1.0, 0.0]], dtype=torch.float64)
    if accepted:
        assert orthonormal(basis) is basis
        assert orthonormal(basis.expand(3, 2, 3)).shape == (3, 2, 3)
    else:
        with pytest.raises(ShapeError, match=r"off by (1\.1e-04|nan), allowed is 1e-04"):
            orthonormal(basis)


def test_a_plane_is_a_pair_or_a_pair_a_row():
    for shape in ((2, 5, 2, 4), (3, 4), (2, 3, 4), (1, 4)):
        with pytest.raises(ShapeError, match=r"expected \[2, d_model\] or \[rows, 2, d_model\]"):
            orthonormal(torch.zeros(shape))


def test_one_plane_of_several_that_is_off_is_refused():
    with pytest.raises(ShapeError, match="not orthonormal"):
        orthonormal(torch.stack([PLANE, PLANE, 1.5 * PLANE]))


def test_radians_lose_whole_turns_before_they_lose_digits():
    for degrees, expected in ((90, math.pi / 2), (-90, 1.5 * math.pi), (360e9 + 90, math.pi / 2), (0.0, 0.0)):
        found = radians(degrees, V.float())
        assert found.dtype == torch.float64
        assert found.item() == pytest.approx(expected, abs=1e-12)
    assert radians(torch.tensor([180.0, 540.0]), V).tolist() == pytest.approx([math.pi] * 2)
    with pytest.raises(ParameterError, match="one finite number, or one a row; got inf"):
        radians(math.inf, V)


def test_amounts_are_one_number_or_one_a_row():
    assert amount(2, "x", V.float()).dtype == torch.float32
    assert amount(0.1, "x", V).item() == 0.1, "in float64 all the way"
    assert amount(torch.tensor([1.0, 2.0]), "x", V).tolist() == [1, 2]
    for wrong in (torch.ones(1, 1), torch.tensor([0.0, math.nan]), math.inf):
        with pytest.raises(ParameterError, match=r"^level must be one finite number, or one a row; got "):
            amount(wrong, "level", V)


def test_norm_rules_are_named():
    assert [norm_rule(name) for name in ("none", "preserve", "cap")] == ["none", "preserve", "cap"]
    with pytest.raises(ParameterError, match=r"unknown norm rule 'caps'.*none, preserve, cap"):
        norm_rule("caps")
