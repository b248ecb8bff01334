"""Edits at the ends of the number line, against float64 NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.errors import ParameterError
from lenssteer.maths import random_plane
from lenssteer.steering.receipts import Meter
from tests.edits import oracle

SEEDS = st.integers(0, 10**6)
WIDE = st.integers(-120, 120)
AMOUNT = st.floats(-1e12, 1e12, allow_nan=False)
PLANE, LINE = random_plane(6, 0), torch.tensor([3.0, 0.0, -4.0, 0.0, 0.0, 0.0], dtype=torch.float64)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
EDITS = {
    "rotate_by": edits.rotate_by(PLANE, degrees=70), "rotate_to": edits.rotate_to(PLANE, degrees=70),
    "adaptive": edits.rotate_to(PLANE, degrees=70, adaptive=True), "set_angle": edits.set_angle(LINE, degrees=70),
    "add": edits.add(LINE), "preserve": edits.add(LINE, norm="preserve"), "cap": edits.add(LINE, norm="cap"),
    "ablate": edits.ablate(LINE), "reflect": edits.reflect(LINE), "clamp": edits.clamp(LINE, 2.0),
    "alphasteer": edits.alphasteer(LINE, LINE.flip(0), strength=0.5),
    "target": edits.steer_to_target(LINE, boundary=0.0, target=1.0),
    "mirror": edits.steer_to_mirror(LINE, boundary=0.0), "gated": edits.gated(edits.add(LINE), LINE.flip(0), 0.0),
}


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(actual: torch.Tensor, expected: list[np.ndarray], size: float) -> None:
    """Within rounding of the largest number that takes part."""
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=0, atol=1e-13 * size)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, d_model=st.integers(1, 9), size=WIDE, amount=AMOUNT)
def test_edits_along_a_direction_of_any_length(seed, d_model, size, amount):
    """Lengths from 1e-120 to 1e120, whose squares leave float64: the direction is the same."""
    h, direction = 10 * draw(seed, 3, d_model), draw(seed + 1, d_model)
    long, scale = direction * 10.0**size, 100 + 100 * abs(amount)
    close(edits.ablate(long)(h), [oracle.ablation(x, direction.numpy()) for x in h.numpy()], scale)
    close(edits.steer_to_target(long, boundary=0.5, target=amount)(h),
          [oracle.to_target(x, direction.numpy(), 0.5, amount) for x in h.numpy()], scale)
    close(edits.steer_to_mirror(long, boundary=0.5, strength=amount)(h),
          [oracle.to_mirror(x, direction.numpy(), 0.5, amount) for x in h.numpy()], 10 * scale)
    close(edits.scale(long, amount)(h),
          [x + (amount - 1) * (x - oracle.ablation(x, direction.numpy())) for x in h.numpy()], scale)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=WIDE, degrees=st.floats(-720, 720), amount=AMOUNT)
def test_activations_of_any_length(seed, size, degrees, amount):
    """What is linear in an activation stays so at lengths from 1e-120 to 1e120."""
    h, plane, vector = draw(seed, 3, 7) * 10.0**size, random_plane(7, seed), draw(seed + 1, 7)
    scale = 10.0 ** (size + 1)
    close(edits.rotate_by(plane, degrees=degrees)(h), [oracle.rotation_by(x, plane.numpy(), degrees) for x in h.numpy()],
          scale)
    close(edits.rotate_to(plane, degrees=degrees)(h), [oracle.rotation_to(x, plane.numpy(), degrees) for x in h.numpy()],
          scale)
    close(edits.ablate(vector)(h), [oracle.ablation(x, vector.numpy()) for x in h.numpy()], scale)
    close(edits.add(vector, amount)(h), [x + amount * vector.numpy() for x in h.numpy()], scale + 10 * abs(amount))


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30, 1e-20, 1e20, 1e38])
def test_float32_directions_outside_the_range_of_squares(size):
    direction = torch.tensor([0.0, size, 0.0, -size])
    expected = torch.tensor([1.0, 0.0, 3.0, 0.0])
    for make in (edits.ablate, lambda d: edits.clamp(d, 0.0), lambda d: edits.scale(d, 0)):
        torch.testing.assert_close(make(direction)(torch.tensor([1.0, 2.0, 3.0, -2.0])), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_direction_that_is_not_finite_is_refused(value):
    bad = torch.tensor([1.0, value, 0.0])
    makers = (edits.ablate, edits.reflect, lambda d: edits.clamp(d, 1.0), lambda d: edits.set_angle(d, degrees=40),
              lambda d: edits.steer_to_target(d, boundary=0.0, target=1.0), edits.add,
              lambda d: edits.steer_to_mirror(d, boundary=0.0), lambda d: edits.alphasteer(d, d, strength=1.0),
              lambda d: edits.gated(edits.add(torch.ones(3)), d, 0.0))
    for make in makers:
        with pytest.raises(ParameterError, match="not finite"):
            make(bad)


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_minus_zero_and_denormals_stay_finite(name, dtype):
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    h = torch.stack([torch.zeros(6), -torch.zeros(6), torch.full((6,), tiny), torch.full((6,), -tiny)]).to(dtype)
    assert tiny > 0
    new = EDITS[name](h)
    assert torch.isfinite(new).all()
    assert (new.shape, new.dtype) == (h.shape, h.dtype)
    assert torch.equal(new[0], new[1]), "-0.0 is 0.0"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_coordinate_at_its_threshold_is_left_alone(dtype):
    """Gates are strict on both sides, whatever the sign of zero; one step beyond, they open."""
    line = torch.tensor([0.0, 1.0, 0.0])
    step = torch.finfo(dtype).eps
    for level in (2.0, 0.0, -0.0, -1.0):
        at = torch.tensor([5.0, level, 1.0], dtype=torch.float64).to(dtype)
        lower = at.clone()
        lower[1] = level - (abs(level) or 1) * step
        for edit, side in ((edits.steer_to_target(line, boundary=level, target=7.0), lower),
                           (edits.steer_to_mirror(line, boundary=level, strength=40.0), lower),
                           (edits.gated(edits.add(line), line, level), 2 * at - lower),
                           (edits.gated(edits.add(line), line, level, above=False), lower)):
            assert torch.equal(edit(at), at)
            assert not torch.equal(edit(side), side)


@pytest.mark.parametrize("name", [n for n in EDITS if n not in ("rotate_by", "rotate_to", "adaptive")])
def test_one_dimension(name):
    """d_model 1: an activation is its own coordinate."""
    line = torch.tensor([-2.0], dtype=torch.float64)
    h = torch.tensor([[3.0], [-3.0], [0.0], [0.5]], dtype=torch.float64)
    made = {"set_angle": (edits.set_angle(line, degrees=70), h),
            "add": (edits.add(line), h - 2), "preserve": (edits.add(line, norm="preserve"), [[3], [-3], [0], [-0.5]]),
            "cap": (edits.add(line, norm="cap"), [[1], [-3], [0], [-0.5]]), "ablate": (edits.ablate(line), 0 * h),
            "reflect": (edits.reflect(line), -h), "clamp": (edits.clamp(line, 2.0), 0 * h - 2),
            "alphasteer": (edits.alphasteer(line, line, strength=0.5), h + 2 * h),
            "target": (edits.steer_to_target(line, boundary=0.0, target=1.0), [[-1], [-3], [0], [-1]]),
            "mirror": (edits.steer_to_mirror(line, boundary=0.0), [[-3], [-3], [0], [-0.5]]),
            "gated": (edits.gated(edits.add(line), line, 0.0), [[3], [-5], [0], [0.5]])}
    edit, expected = made[name]
    torch.testing.assert_close(edit(h), torch.as_tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_an_overflow_is_counted_and_never_wraps(dtype):
    """A change beyond the range of the activation's dtype: infinite there, finite elsewhere, and counted."""
    largest = torch.finfo(dtype).max
    vector = torch.tensor([largest, 0.0, 1.0], dtype=torch.float64)
    h = torch.ones(1, 2, 3, dtype=dtype)
    h[0, 1, 0] = -1.0
    new = edits.add(vector, 2.0 if dtype != torch.float32 else 1.0)(h)
    new = edits.add(vector)(new) if dtype == torch.float32 else new
    assert torch.isinf(new[..., 0]).all()
    assert torch.isfinite(new[..., 1:]).all()
    meter = Meter()
    meter.add(2, 2, h, new)
    assert meter.read().non_finite == 2


def test_padding_may_hold_anything():
    h, real = torch.ones(2, 3, 4), torch.tensor([[False, True, True], [True, True, True]])
    h[0, 0] = float("nan")
    meter, whole = Meter(), Meter()
    meter.add(5, 5, h, h + 1, torch.ones(1, 1, 4) / 2, real)
    whole.add(6, 6, h, h + 1, torch.ones(1, 1, 4) / 2)
    assert (meter.read().edited, meter.read().non_finite) == (5, 0)
    assert whole.read().non_finite == 1
    assert meter.read().mean_displacement == pytest.approx(2.0)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, rank=st.integers(1, 4), d_model=st.integers(1, 8), size=st.integers(-30, 30),
       norm=st.sampled_from(["none", "preserve", "cap"]), gated=st.booleans())
def test_any_edit_equals_the_formula_at_any_size(seed, rank, d_model, size, norm, gated):
    """Arrays of size 1 to 10, activations from 1e-30 to 1e30, with thresholds and offsets of the same unit."""
    unit = 10.0**size
    arrays = {"read": draw(seed, rank, d_model), "write": draw(seed + 1, rank, d_model),
              "gain": draw(seed + 2, rank, rank), "offset": unit * draw(seed + 3, rank), "radial": draw(seed + 4, rank),
              "bias": unit * draw(seed + 5, rank)}
    if gated:
        arrays |= {"gate": torch.randint(-1, 2, (rank, rank), generator=torch.Generator().manual_seed(seed)).double(),
                   "threshold": unit * draw(seed + 6, rank)}
    edit, h = LowRankEdit(**arrays, norm=norm), unit * draw(seed + 7, 4, d_model)
    plain = {name: array.numpy() for name, array in arrays.items()}
    plain.setdefault("gate", np.zeros((rank, rank)))
    plain.setdefault("threshold", np.zeros(rank))
    expected = np.asarray([oracle.low_rank(x, plain, norm) for x in h.numpy()])
    np.testing.assert_allclose(edit(h).numpy(), expected, rtol=1e-9, atol=1e-11 * unit)


def test_lengths_that_float32_cannot_square():
    """Below 1e-19 a length counts as zero; above 1e19 it is infinite, and the receipt counts the token as broken."""
    h = torch.tensor([[3.0, 4.0, 0.0, 1.0, 0.0, 0.0]])
    turned, angled = edits.rotate_to(torch.eye(2, 6), degrees=90), edits.set_angle(torch.eye(6)[0], degrees=90)
    torch.testing.assert_close(turned(h * 1e-15), torch.tensor([[0.0, 5.0, 0.0, 1.0, 0.0, 0.0]]) * 1e-15)
    assert turned(h * 1e-25).tolist() == [[0.0, 0.0, 0.0, pytest.approx(1e-25), 0.0, 0.0]]
    assert torch.equal(angled(h * 1e-25), h * 1e-25)
    for edit in (turned, angled):
        for size, broken in ((1e18, 0), (1e25, 1)):
            meter = Meter()
            meter.add(1, 1, h[None] * size, edit(h[None] * size))
            assert meter.read().non_finite == broken
