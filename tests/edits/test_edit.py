import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lenssteer import edits
from lenssteer.edits import LowRankEdit, apply_edit, coordinates
from lenssteer.errors import ParameterError, ShapeError
from lenssteer.maths import random_plane
from tests.edits import oracle


def random_edit(rank: int, d_model: int, seed: int, *, gated: bool = False, rows: int | None = None,
                norm: str = "none") -> LowRankEdit:
    draw = torch.Generator().manual_seed(seed)
    lead = () if rows is None else (rows,)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*lead, *shape, generator=draw, dtype=torch.float64)

    gate = torch.randint(-1, 2, (*lead, rank, rank), generator=draw).to(torch.float64) if gated else None
    return LowRankEdit(normal(rank, d_model), normal(rank, d_model), normal(rank, rank), normal(rank), normal(rank),
                       normal(rank), gate, normal(rank) if gated else None, norm=norm)


def arrays(edit: LowRankEdit) -> dict[str, np.ndarray]:
    rank = edit.rank
    zero = {"gate": np.zeros((rank, rank)), "threshold": np.zeros(rank)}
    return zero | {name: tensor.numpy() for name, tensor in edit.tensors().items()}


@settings(max_examples=60, deadline=None)
@given(rank=st.integers(1, 4), d_model=st.integers(1, 9), seed=st.integers(0, 10**6), gated=st.booleans(),
       norm=st.sampled_from(["none", "preserve", "cap"]))
def test_the_map_is_the_one_of_the_architecture_page(rank, d_model, seed, gated, norm):
    edit = random_edit(rank, d_model, seed, gated=gated, norm=norm)
    h = torch.randn(3, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    expected = np.stack([oracle.low_rank(row, arrays(edit), norm) for row in h.numpy()])
    np.testing.assert_allclose(edit(h).numpy(), expected, rtol=1e-12, atol=1e-12 * (1 + np.abs(expected).max()))


def test_radius_may_be_that_of_the_complement():
    basis = random_plane(6, 1)[:1]
    h = torch.randn(4, 6, dtype=torch.float64)
    flat, square = torch.zeros(1, dtype=torch.float64), -torch.ones(1, 1, dtype=torch.float64)
    edit = LowRankEdit(basis, basis, square, flat, flat + 1.5, flat, radius="complement", norm="preserve")
    gate = {"gate": np.zeros((1, 1)), "threshold": np.zeros(1)}
    expected = [oracle.low_rank(row, arrays(edit) | gate, "preserve", "complement") for row in h.numpy()]
    np.testing.assert_allclose(edit(h).numpy(), expected, atol=1e-12)


def test_a_rotation_in_the_span_of_h_and_d_reaches_its_angle():
    """Angular Steering, appendix A: the angle to d becomes 50 degrees and the norm stays."""
    d = random_plane(8, 3)[:1]
    flat, square = torch.zeros(1, dtype=torch.float64), -torch.ones(1, 1, dtype=torch.float64)
    cot = 1 / np.tan(np.radians(50))
    new = LowRankEdit(d, d, square, flat, flat + cot, flat, radius="complement", norm="preserve")(
        h := torch.randn(5, 8, dtype=torch.float64))
    angle = torch.rad2deg(torch.acos(new @ d[0] / new.norm(dim=-1)))
    torch.testing.assert_close(angle, torch.full((5,), 50.0, dtype=torch.float64))
    torch.testing.assert_close(new.norm(dim=-1), h.norm(dim=-1))


@pytest.mark.parametrize("shape", [(7,), (3, 7), (3, 2, 7), (3, 2, 2, 7)])
def test_any_leading_shape_gives_the_same_as_token_by_token(shape):
    edit = random_edit(2, 7, 0, gated=True)
    h = torch.randn(shape, dtype=torch.float64)
    one_by_one = torch.stack([edit(row) for row in h.reshape(-1, 7)]).reshape(shape)
    torch.testing.assert_close(edit(h), one_by_one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_dtype_and_shape_of_the_activation(dtype):
    edit = edits.rotate_by(random_plane(16, 0), degrees=70)
    h = torch.randn(2, 3, 16).to(dtype)
    assert edit(h).dtype == dtype
    assert edit(h).shape == h.shape


def test_coordinates_are_float32_for_half_precision_activations():
    """Sixteen rotations by 22.5 degrees in bfloat16: the norm drifts by rounding of the delta only."""
    h = torch.randn(64, 512).to(torch.bfloat16)
    edit = edits.rotate_by(random_plane(512, 0), degrees=22.5)
    new = h
    for _ in range(16):
        new = edit(new)
    drift = (new.float().norm(dim=-1) / h.float().norm(dim=-1) - 1).abs().max()
    assert drift < 3e-3
    torch.testing.assert_close(new.float(), h.float(), atol=0.1, rtol=0.05)


def test_float64_activations_are_edited_in_float64():
    basis = random_plane(32, 0)
    h = torch.randn(4, 32, dtype=torch.float64)
    expected = np.stack([oracle.rotation_by(row, basis.numpy(), 33.0) for row in h.numpy()])
    np.testing.assert_allclose(edits.rotate_by(basis, degrees=33.0)(h).numpy(), expected, atol=1e-13)


def test_rows_give_every_row_its_own_edit():
    parts = [random_edit(2, 5, seed, gated=seed % 2 == 0) for seed in range(4)]
    h = torch.randn(4, 3, 5, dtype=torch.float64)
    stacked = LowRankEdit.stack(parts)
    assert stacked.rows == 4
    torch.testing.assert_close(stacked(h), torch.stack([part(row) for part, row in zip(parts, h, strict=True)]))
    torch.testing.assert_close(stacked(h[:, 0]), torch.stack([p(row) for p, row in zip(parts, h[:, 0], strict=True)]))


def test_every_parameter_may_carry_rows_alone():
    base = random_edit(2, 5, 0, gated=True)
    h = torch.randn(3, 2, 5, dtype=torch.float64)
    for name, tensor in base.tensors().items():
        many = tensor.expand(3, *tensor.shape).clone()
        many = many * torch.tensor([1.0, 0.0, -1.0]).reshape(3, *[1] * tensor.ndim)
        rowed = LowRankEdit(**(base.tensors() | {name: many}))
        expected = [LowRankEdit(**(base.tensors() | {name: many[i]}))(h[i]) for i in range(3)]
        torch.testing.assert_close(rowed(h), torch.stack(expected), msg=name)


def test_stack_fills_up_lower_ranks_and_shares_what_is_equal():
    basis = random_plane(9, 0)
    parts = [edits.rotate_by(basis, degrees=angle) for angle in (0, 30, 300)]
    stacked = LowRankEdit.stack(parts)
    assert stacked.read.ndim == 2, "the plane is the same for all rows, so it is stored once"
    mixed = LowRankEdit.stack([*parts, edits.ablate(basis[0]), LowRankEdit.identity(9)])
    h = torch.randn(5, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(mixed(h)[3], edits.ablate(basis[0])(h[3]))
    assert torch.equal(mixed(h)[4], h[4])


def test_stack_of_stacks_keeps_the_order_of_rows():
    first = LowRankEdit.stack([random_edit(1, 4, 0), random_edit(2, 4, 1)])
    both = LowRankEdit.stack([first, random_edit(1, 4, 2)])
    h = torch.randn(3, 1, 4, dtype=torch.float64)
    expected = [random_edit(1, 4, 0)(h[0]), random_edit(2, 4, 1)(h[1]), random_edit(1, 4, 2)(h[2])]
    torch.testing.assert_close(both(h), torch.stack(expected))


def test_stacking_one_edit_twice_still_has_rows():
    edit = edits.ablate(torch.ones(3))
    assert LowRankEdit.stack([edit, edit]).rows == 2
    assert LowRankEdit.stack([edit]).rows == 1


def test_take_picks_rows():
    stacked = LowRankEdit.stack([random_edit(1, 4, seed) for seed in range(3)])
    h = torch.randn(2, 1, 4, dtype=torch.float64)
    expected = torch.stack([random_edit(1, 4, 2)(h[0]), random_edit(1, 4, 0)(h[1])])
    torch.testing.assert_close(stacked.take(torch.tensor([2, 0]))(h), expected)
    with pytest.raises(ShapeError, match="has 3 rows"):
        stacked.take(torch.tensor([3]))
    with pytest.raises(ParameterError, match="same for every row"):
        random_edit(1, 4, 0).take(torch.tensor([0]))


def test_a_closed_gate_leaves_the_token_bit_for_bit():
    basis = random_plane(16, 0)
    edit = edits.rotate_to(basis, degrees=90, adaptive=True, threshold=1e9)
    for dtype in (torch.bfloat16, torch.float32):
        h = torch.randn(3, 16).to(dtype)
        assert torch.equal(edit(h), h)


def test_identity_changes_nothing():
    h = torch.randn(2, 3, 8)
    assert torch.equal(LowRankEdit.identity(8)(h), h)


def test_zero_activations_stay_finite():
    zero = torch.zeros(2, 8)
    basis = random_plane(8, 0)
    for edit in (edits.rotate_by(basis, degrees=10), edits.rotate_to(basis, degrees=10), edits.ablate(basis[0])):
        assert torch.equal(edit(zero), zero)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_options_on_what_vanishes_up_to_rounding(dtype):
    """It has no direction to be rescaled in: kept under "preserve", gone under "cap", never NaN."""
    v = torch.randn(50, 300, generator=torch.Generator().manual_seed(0), dtype=dtype)
    ablation = edits.ablate(v)
    kept = LowRankEdit(**ablation.tensors(), norm="preserve")
    gone = LowRankEdit(**ablation.tensors(), norm="cap")
    assert torch.equal(kept(v), v)
    assert (gone(v).norm(dim=-1) < 1e-5 * v.norm(dim=-1)).all()
    assert torch.equal(kept(v * 0), v * 0)
    beside = v + 1e-4 * v.roll(1, -1)
    torch.testing.assert_close(kept(beside).norm(dim=-1), beside.norm(dim=-1))
    assert (kept(beside) * v).sum(-1).abs().max() < 1e-2 * (v * v).sum(-1).max(), "close to vanishing is still edited"


def test_cost_is_linear_in_the_width():
    """Counted by torch: read and write of rank 2 cost 2 * 2 * 2 * d_model each token; the gain is multiplied into what
    is read once an edit, not once a token."""

    def flops(d_model: int) -> int:
        edit = edits.rotate_by(random_plane(d_model, 0), degrees=9).to(dtype=torch.float32)
        edit(torch.randn(1, d_model))
        with FlopCounterMode(display=False) as counter:
            edit(torch.randn(10, d_model))
        return counter.get_total_flops()

    assert flops(64) == 10 * 8 * 64
    assert flops(640) == 10 * 8 * 640


def test_coordinates_are_what_is_read():
    edit = random_edit(2, 5, 0)
    h = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(coordinates(edit, h), h @ edit.read.T + edit.bias)


def test_shapes_that_disagree_are_refused():
    """In a process of its own: here the shape-checking import hook would refuse them first."""
    code = """
import torch
from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.errors import ShapeError
base = edits.ablate(torch.ones(5)).tensors()
wrong = {"write": torch.zeros(1, 4), "gain": torch.zeros(2, 3, 1, 1), "offset": torch.zeros(2)}
for name, tensor in wrong.items():
    try:
        LowRankEdit(**(base | {name: tensor}))
    except ShapeError as error:
        assert f"{name} has shape" in str(error), error
    else:
        raise SystemExit(f"{name} was accepted")
try:
    LowRankEdit(**(base | {"offset": torch.zeros(2, 1), "bias": torch.zeros(3, 1)}))
except ShapeError as error:
    assert "different numbers of rows" in str(error)
else:
    raise SystemExit("rows were accepted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_values_are_checked():
    base = random_edit(2, 5, 0)
    with pytest.raises(ParameterError, match="not finite"):
        LowRankEdit(**(base.tensors() | {"offset": torch.tensor([float("nan"), 0.0], dtype=torch.float64)}))
    with pytest.raises(ParameterError, match="come together"):
        LowRankEdit(**base.tensors(), gate=torch.zeros(2, 2))
    with pytest.raises(ParameterError, match=r"-1, 0 or \+1"):
        LowRankEdit(**base.tensors(), gate=torch.full((2, 2), 0.5), threshold=torch.zeros(2))


def test_activations_of_another_width_or_batch_are_refused():
    with pytest.raises(ShapeError, match="d_model 5"):
        apply_edit(random_edit(2, 5, 0), torch.zeros(3, 6))
    stacked = LowRankEdit.stack([random_edit(1, 5, seed) for seed in range(3)])
    with pytest.raises(ShapeError, match="3 rows"):
        stacked(torch.zeros(2, 4, 5))
    with pytest.raises(ParameterError, match="nothing to stack"):
        LowRankEdit.stack([])
    with pytest.raises(ShapeError, match="d_model"):
        LowRankEdit.stack([random_edit(1, 4, 0), random_edit(1, 5, 0)])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), gated=st.booleans())
def test_coordinates_that_are_never_written_count_in_no_radius(seed, gated):
    edit = random_edit(3, 6, seed, gated=gated)
    edit = LowRankEdit(**(edit.tensors() | {"write": edit.write * torch.tensor([[1.0], [0.0], [1.0]])}))
    h = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    expected = np.stack([oracle.low_rank(row, arrays(edit)) for row in h.numpy()])
    np.testing.assert_allclose(edit(h).numpy(), expected, rtol=1e-12, atol=1e-12 * (1 + np.abs(expected).max()))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), gated=st.booleans(), strength=st.floats(-5, 5))
def test_scaling_multiplies_the_update(seed, gated, strength):
    edit = random_edit(2, 6, seed, gated=gated)
    h = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    moved = (strength * (edit(h) - h)).numpy()
    np.testing.assert_allclose((edit.scaled(strength)(h) - h).numpy(), moved, atol=1e-11 * (1 + np.abs(moved).max()))


@pytest.mark.parametrize("norm", ["none", "preserve", "cap"])
def test_strength_zero_is_the_identity_and_one_the_edit(norm):
    edit = random_edit(2, 6, 0, gated=True, norm=norm)
    h = torch.randn(4, 6, dtype=torch.float64)
    assert torch.equal(edit.scaled(0)(h), h)
    assert torch.equal(edit.scaled(1.0)(h), edit(h))


@pytest.mark.parametrize("rows", [None, 3])
def test_strength_may_differ_by_row(rows):
    edit = random_edit(2, 6, 0, gated=True, rows=rows)
    h = torch.randn(3, 2, 6, dtype=torch.float64)
    strength = torch.tensor([0.0, 1.0, -2.5], dtype=torch.float64)
    torch.testing.assert_close(edit.scaled(strength)(h), h + strength.reshape(3, 1, 1) * (edit(h) - h))


def test_the_norm_rule_comes_after_scaling():
    edit = random_edit(2, 6, 0, norm="preserve")
    h = torch.randn(4, 6, dtype=torch.float64)
    bare = LowRankEdit(**edit.tensors())
    halved = h + 0.5 * (bare(h) - h)
    rescaled = halved * (h.norm(dim=-1) / halved.norm(dim=-1)).unsqueeze(-1)
    torch.testing.assert_close(edit.scaled(0.5)(h), rescaled)


def test_strengths_that_are_not_numbers_are_refused():
    for strength in (float("nan"), torch.tensor([1.0, float("inf")]), torch.zeros(2, 2)):
        with pytest.raises(ParameterError, match="strength must be"):
            random_edit(1, 4, 0).scaled(strength)
    with pytest.raises(ShapeError, match="strength has 2 rows, the edit 3"):
        random_edit(1, 4, 0, rows=3).scaled(torch.ones(2))


@pytest.fixture
def unchecked():
    """As users have the package: without the tests' own checks of shapes, which would refuse first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", ["read", "write", "gain", "offset", "radial", "bias", "gate", "threshold"])
def test_every_array_is_of_its_own_shape(unchecked, name):
    base = random_edit(2, 5, 0, gated=True).tensors()
    shape = base[name].shape
    assert LowRankEdit(**(base | {name: base[name].expand(3, *shape)})).rows == 3
    for wrong in ((3, 3, *shape), (*shape[:-1], shape[-1] + 1), *([shape[1:]] if name != "read" else [])):
        blamed = "write" if name == "read" and len(wrong) == 2 else name
        with pytest.raises(ShapeError, match=rf"^{blamed} has shape \[.*\]; expected \["):
            LowRankEdit(**(base | {name: torch.zeros(wrong, dtype=torch.float64)}))


def test_rows_of_several_arrays_agree(unchecked):
    base = random_edit(2, 5, 0).tensors()
    with pytest.raises(ShapeError, match=r"different numbers of rows: \[2, 3\]"):
        LowRankEdit(**(base | {"offset": base["offset"].expand(3, 2), "gain": base["gain"].expand(2, 2, 2)}))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_gate_entries_are_signs(value):
    base = random_edit(2, 5, 0).tensors()
    given = {"gate": torch.full((2, 2), value, dtype=torch.float64), "threshold": torch.zeros(2, dtype=torch.float64)}
    assert LowRankEdit(**base, **given).gate.unique().tolist() == [value]
    for wrong in (value + 2.5, value - 2.5):
        with pytest.raises(ParameterError, match="gate entries"):
            LowRankEdit(**base, **(given | {"gate": given["gate"].index_fill(1, torch.tensor([1]), wrong)}))
    with pytest.raises(ParameterError, match="come together"):
        LowRankEdit(**base, threshold=torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["read", "write", "gain", "offset", "radial", "bias", "threshold"])
def test_one_value_that_is_not_finite_is_refused(name):
    base = random_edit(2, 5, 0, gated=True).tensors()
    spoilt = base[name].clone()
    spoilt.view(-1)[-1] = torch.inf
    with pytest.raises(ParameterError, match=f"^{name} holds values that are not finite"):
        LowRankEdit(**(base | {name: spoilt}))


def test_an_edit_with_rows_needs_a_batch(unchecked):
    stacked = LowRankEdit.stack([random_edit(1, 3, seed) for seed in range(3)])
    for h, got in ((torch.zeros(3), 0), (torch.zeros(4, 3), 4), (torch.zeros(2, 3, 3), 2)):
        with pytest.raises(ShapeError, match=f"has 3 rows, the batch has {got}; use edit.take"):
            stacked(h)
    assert stacked(torch.zeros(3, 3)).shape == (3, 3)
    with pytest.raises(ShapeError, match="the edit is for d_model 3, the activation has 4"):
        stacked(torch.zeros(3, 4))


def test_rows_are_taken_by_number_from_zero():
    stacked = LowRankEdit.stack([random_edit(1, 4, seed) for seed in range(3)])
    assert stacked.take(torch.tensor([0, 2, 2, 1])).rows == 4
    assert stacked.take(torch.tensor([], dtype=torch.long)).gain.shape == (0, 1, 1)
    assert torch.equal(stacked.take(torch.tensor([1])).gain, stacked.gain[1:2])
    for wrong in ([-1], [0, -2, 1]):
        with pytest.raises(ShapeError, match="the edit has 3 rows"):
            stacked.take(torch.tensor(wrong))
    with pytest.raises(ShapeError, match=r"^row 3 was asked for, but the edit has 3 rows"):
        stacked.take(torch.tensor([3, 0]))


def test_what_is_shared_stays_shared_when_rows_are_taken():
    edit = edits.rotate_by(random_plane(6, 0), degrees=torch.tensor([10.0, 20.0]))
    taken = edit.take(torch.tensor([1]))
    assert taken.read is edit.read
    assert torch.equal(taken.gain, edit.gain[1:])


def test_a_stack_keeps_the_options_that_its_edits_share():
    basis = random_plane(6, 1)[:1]
    flat, square = torch.zeros(1, dtype=torch.float64), -torch.ones(1, 1, dtype=torch.float64)
    parts = [LowRankEdit(basis, basis, square, flat, flat + k, flat, norm="preserve", radius="complement") for k in (0.5, 1.5)]
    stacked = LowRankEdit.stack(parts)
    assert (stacked.norm, stacked.radius, stacked.rows) == ("preserve", "complement", 2)
    h = torch.randn(2, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(stacked(h), torch.stack([part(row) for part, row in zip(parts, h, strict=True)]))
    for other in ({"norm": "cap", "radius": "complement"}, {"norm": "preserve", "radius": "plane"}):
        with pytest.raises(ParameterError, match="different norm or radius options"):
            LowRankEdit.stack([parts[0], LowRankEdit(**parts[1].tensors(), **other)])


def test_stacks_repeat_what_they_share_and_rows_are_not_repeated():
    edit = edits.ablate(torch.ones(3))
    repeated = edit.repeated(4)
    assert (repeated.rows, repeated.offset.shape, repeated.read.ndim) == (4, (4, 1), 2)
    assert repeated.repeated(7) is repeated
    assert edit.rows is None


def test_an_identity_has_the_rank_asked_for():
    assert (LowRankEdit.identity(8).rank, LowRankEdit.identity(8, 3).rank, LowRankEdit.identity(8, 3).d_model) == (1, 3, 8)
    h = torch.randn(2, 8)
    assert torch.equal(LowRankEdit.identity(8, 3)(h), h)


def test_what_an_edit_says_of_itself():
    """Constant: the same change for all. Radial: depends on a length. Written: which coordinates are."""
    add, turn = edits.add(torch.ones(4), 2.0), edits.rotate_by(random_plane(4, 0), degrees=9)
    radial = edits.rotate_to(random_plane(4, 0), degrees=9)
    probed = edits.gated(add, torch.ones(4), 0.0)
    assert [edit.is_constant for edit in (add, turn, radial, probed)] == [True, False, False, False]
    assert [edit.is_radial for edit in (add, turn, radial, probed)] == [False, False, True, False]
    assert probed.written.tolist() == [1, 0]
    assert torch.equal(add.constant, torch.full((1, 4), 2.0))
    matrix, shift = random_edit(2, 5, 0).affine
    assert (matrix.shape, shift.shape) == ((2, 5), (2,))


def test_arrays_move_to_another_dtype_together():
    edit = random_edit(2, 5, 0, gated=True, norm="cap").to(dtype=torch.float32)
    assert {tensor.dtype for tensor in edit.tensors().values()} == {torch.float32}
    assert edit.norm == "cap"
    assert len(edit.tensors()) == 8
    assert "gate" not in random_edit(2, 5, 0).tensors()


def test_strengths_are_taken_in_the_dtype_of_the_edit():
    edit = random_edit(2, 5, 0).to(dtype=torch.float32)
    scaled = edit.scaled(torch.tensor([0.1, 2.0], dtype=torch.float64))
    assert {tensor.dtype for tensor in scaled.tensors().values()} == {torch.float32}
    assert (scaled.read is edit.read, scaled.bias is edit.bias, scaled.rows) == (True, True, 2)
    torch.testing.assert_close(scaled.gain, torch.stack([0.1 * edit.gain, 2 * edit.gain]))
    torch.testing.assert_close(scaled.offset, torch.stack([0.1 * edit.offset, 2 * edit.offset]))
    torch.testing.assert_close(scaled.radial, torch.stack([0.1 * edit.radial, 2 * edit.radial]))


def test_edits_cannot_be_changed():
    with pytest.raises(AttributeError):
        random_edit(1, 3, 0).norm = "cap"
