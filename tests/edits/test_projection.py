import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.errors import ParameterError
from tests.edits import oracle
from tests.edits.test_methods import SEEDS, WIDTHS, draw

LEVELS = st.floats(-20, 20)
STRENGTHS = st.floats(-3, 3)


def close(actual, expected) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-10, atol=1e-10)


def sides(h: torch.Tensor, d: torch.Tensor, threshold: float) -> torch.Tensor:
    return h @ (d / d.norm()) < threshold


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, boundary=LEVELS, target=LEVELS)
def test_to_target_equals_the_dense_map(d_model, seed, boundary, target):
    d, h = draw(d_model, seed, 1)[0], draw(d_model, seed + 1)
    edit = edits.steer_to_target(d, boundary=boundary, target=target)
    close(edit(h), [oracle.to_target(x, d.numpy(), boundary, target) for x in h.numpy()])


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, boundary=LEVELS, strength=STRENGTHS)
def test_to_mirror_equals_the_dense_map(d_model, seed, boundary, strength):
    d, h = draw(d_model, seed, 1)[0], draw(d_model, seed + 1)
    edit = edits.steer_to_mirror(d, boundary=boundary, strength=strength)
    close(edit(h), [oracle.to_mirror(x, d.numpy(), boundary, strength) for x in h.numpy()])


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, boundary=LEVELS, value=LEVELS)
def test_projections_are_the_target_and_the_mirror_image(seed, boundary, value):
    """Where the gate is open; elsewhere nothing moves, and nothing moves across the direction."""
    d, h = draw(8, seed, 1)[0], draw(8, seed + 1)
    v = d / d.norm()
    below = sides(h, d, boundary)
    aimed = edits.steer_to_target(d, boundary=boundary, target=value)
    mirrored = edits.steer_to_mirror(d, boundary=boundary)
    close((aimed(h) @ v)[below], torch.full((int(below.sum()),), value, dtype=h.dtype))
    close((mirrored(h) @ v)[below], (2 * boundary - h @ v)[below])
    halfway = edits.steer_to_mirror(d, boundary=boundary, strength=0.5)
    close((halfway(h) @ v)[below], torch.full((int(below.sum()),), boundary, dtype=h.dtype))
    for edit in (aimed, mirrored, halfway):
        assert torch.equal(edit(h)[~below], h[~below])
        close((edit(h) - h) - ((edit(h) - h) @ v).unsqueeze(-1) * v, torch.zeros_like(h))


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, boundary=LEVELS, beyond=st.floats(0, 20), strength=st.floats(0.5, 3))
def test_both_are_idempotent(seed, boundary, beyond, strength):
    d, h = draw(8, seed, 1)[0], draw(8, seed + 1)
    for edit in (edits.steer_to_target(d, boundary=boundary, target=boundary + beyond),
                 edits.steer_to_mirror(d, boundary=boundary, strength=strength)):
        close(edit(edit(h)), edit(h))


def test_below_half_strength_the_mirror_map_goes_on_moving():
    h = -torch.eye(1, 4, dtype=torch.float64)[0]
    edit = edits.steer_to_mirror(-h, boundary=0.0, strength=0.25)
    assert edit(h)[0] == -0.5
    assert edit(edit(h))[0] == -0.25


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_the_gate_is_strict(threshold):
    d = 7 * torch.eye(1, 3, dtype=torch.float64)[0]
    level = 2.0 if threshold is None else threshold
    at = torch.tensor([level, 5.0, 5.0], dtype=torch.float64)
    under = at - torch.tensor([1e-9, 0, 0], dtype=torch.float64)
    for edit in (edits.steer_to_target(d, boundary=2.0, target=3.0, threshold=threshold),
                 edits.steer_to_mirror(d, boundary=2.0, strength=2.0, threshold=threshold)):
        assert torch.equal(edit(at), at)
        assert not torch.equal(edit(under), under)


def test_a_threshold_moves_the_gate_and_nothing_else():
    d, h = draw(8, 0, 1)[0], draw(8, 1, 40)
    v = d / d.norm()
    below = sides(h, d, 6.0)
    assert 0 < below.sum() < 40
    moved = edits.steer_to_mirror(d, boundary=1.0, threshold=6.0)(h)
    close((moved @ v)[below], (2.0 - h @ v)[below])
    assert torch.equal(moved[~below], h[~below])
    aimed = edits.steer_to_target(d, boundary=1.0, target=9.0, threshold=6.0)(h)
    close((aimed @ v)[below], torch.full((int(below.sum()),), 9.0))
    assert torch.equal(aimed[~below], h[~below])


def test_the_length_of_the_direction_does_not_matter():
    d, h = draw(8, 0, 1)[0], draw(8, 1)
    close(edits.steer_to_target(50 * d, boundary=1, target=2)(h), edits.steer_to_target(d, boundary=1, target=2)(h))
    close(edits.steer_to_mirror(50 * d, boundary=1)(h), edits.steer_to_mirror(d, boundary=1)(h))


@pytest.mark.parametrize("name", ["boundary", "target", "threshold", "strength"])
def test_every_number_may_differ_by_row(name):
    d, h = draw(8, 0, 1)[0], draw(8, 1, 6).reshape(3, 2, 8)
    make = edits.steer_to_mirror if name == "strength" else edits.steer_to_target
    fixed = {"boundary": 2.0, "threshold": 4.0} | ({} if name == "strength" else {"target": 5.0})
    values = torch.tensor([-3.0, 0.5, 30.0], dtype=torch.float64)
    alone = [make(d, **(fixed | {name: value.item()}))(row) for value, row in zip(values, h, strict=True)]
    close(make(d, **(fixed | {name: values}))(h), torch.stack(alone))
    mirrored = [edits.steer_to_mirror(d, boundary=value.item())(row) for value, row in zip(values, h, strict=True)]
    close(edits.steer_to_mirror(d, boundary=values)(h), torch.stack(mirrored))


def test_a_zero_direction_is_a_no_op_and_numbers_are_checked():
    zero, h = torch.zeros(8), draw(8, 0)
    assert torch.equal(edits.steer_to_target(zero, boundary=5.0, target=9.0)(h), h)
    assert torch.equal(edits.steer_to_mirror(zero, boundary=5.0)(h), h)
    nan = float("nan")
    for make, numbers in ((edits.steer_to_target, {"boundary": nan, "target": 1.0, "threshold": 0.0}),
                          (edits.steer_to_target, {"boundary": 0.0, "target": nan}),
                          (edits.steer_to_mirror, {"boundary": 0.0, "threshold": nan}),
                          (edits.steer_to_mirror, {"boundary": 0.0, "strength": nan})):
        with pytest.raises(ParameterError, match="must be one finite number"):
            make(torch.ones(8), **numbers)
