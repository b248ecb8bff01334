"""The plan of an edit: few operations, the values of the formula, gradients, and what is let through of an update."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lenssteer import edits
from lenssteer.edits import LowRankEdit, apply_edit
from lenssteer.errors import ParameterError
from lenssteer.maths import random_plane
from tests.edits import oracle
from tests.edits.test_edit import arrays, random_edit

BASIS = random_plane(16, 7)
VIEWS = {"view", "_unsafe_view", "t", "transpose", "expand", "slice", "detach", "alias", "unsqueeze"}
MADE = {
    "turn": edits.rotate_by(BASIS, degrees=70), "to": edits.rotate_to(BASIS, degrees=70),
    "adaptive": edits.rotate_to(BASIS, degrees=70, adaptive=True), "angle": edits.set_angle(BASIS[0], degrees=70),
    "add": edits.add(BASIS[0], 2.0), "capped": edits.add(BASIS[0], 2.0, norm="cap"), "ablate": edits.ablate(BASIS[0], 0.3),
    "target": edits.steer_to_target(BASIS[0], boundary=0.1, target=1.0),
    "mirror": edits.steer_to_mirror(BASIS[1], boundary=0.1),
    "probed": edits.gated(edits.rotate_by(BASIS, degrees=70), random_plane(16, 1)[0], 0.1, above=False),
}
"""One edit of every kind, in float64."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected(edit: LowRankEdit, h: torch.Tensor) -> np.ndarray:
    lines = h.reshape(-1, h.shape[-1]).numpy()
    return np.stack([oracle.low_rank(line, arrays(edit), edit.norm, edit.radius) for line in lines]).reshape(h.shape)


class Operations(TorchDispatchMode):
    """Counts what is computed; views cost next to nothing."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name.removeprefix("aten::") not in VIEWS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "most"), [("turn", 2), ("add", 1), ("ablate", 2), ("to", 5), ("adaptive", 7), ("target", 5),
                                            ("mirror", 5), ("probed", 5), ("angle", 22)])
def test_a_step_takes_few_operations(name, most):
    """Of decoding, where an operation costs its call: reading, writing, and what radius and gate need."""
    edit, h = MADE[name].to(dtype=torch.float32), torch.randn(3, 1, 16)
    edit(h)
    with torch.no_grad(), Operations() as counter:
        edit(h)
    assert counter.count <= most


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("shape", [(3, 2, 16), (16,), (0, 16), (1, 8195, 16), (64, 130, 16)], ids=str)
def test_values_are_those_of_the_formula_at_every_size(name, shape):
    """Sizes at which `h` is read in one piece, and in 1 and 64."""
    h = normal(*shape)
    few = h.reshape(-1, 16)[:: max(len(h.reshape(-1, 16)) // 50, 1)]
    found = MADE[name](h)
    assert found.shape == h.shape
    if h.numel():
        at = found.reshape(-1, 16)[:: max(len(h.reshape(-1, 16)) // 50, 1)]
        np.testing.assert_allclose(at, expected(MADE[name], few), rtol=1e-11, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 3), sign=st.sampled_from([-1.0, 1.0]), rows=st.sampled_from([None, 3]))
def test_one_comparison_for_all_that_is_written(seed, rank, sign, rows):
    """Also where a coordinate that is never written has conditions of its own, and where thresholds differ by row."""
    edit, h = random_edit(rank, 5, seed, gated=True), normal(3, 4, 5, seed=seed + 1)
    gate = torch.zeros(rank, rank, dtype=torch.float64)
    gate[:, seed % rank] = sign
    written = torch.ones(rank, 1, dtype=torch.float64)
    if rank == 3:
        gate[2], written[2] = torch.tensor([1.0, -1.0, 1.0]), 0.0
    threshold = edit.threshold if rows is None else normal(rows, rank, seed=seed + 2)
    parts = edit.tensors() | {"gate": gate, "write": edit.write * written}
    lines = [LowRankEdit(**(parts | {"threshold": one})) for one in threshold.expand(3, rank)]
    found = LowRankEdit(**(parts | {"threshold": threshold}))(h)
    np.testing.assert_allclose(found, np.stack([expected(one, row) for one, row in zip(lines, h, strict=True)]),
                               rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MADE)
def test_gradients_are_those_of_the_map(name):
    h = normal(4, 16, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(MADE[name], (h,))


@pytest.mark.parametrize("norm", ["preserve", "cap"])
def test_gradients_are_finite_where_nothing_is_left(norm):
    edit = LowRankEdit(**edits.ablate(BASIS[0]).tensors(), norm=norm)
    h = torch.stack([BASIS[0], torch.zeros(16, dtype=torch.float64)]).requires_grad_()
    edit(h).sum().backward()
    assert torch.isfinite(h.grad).all()


@pytest.mark.parametrize("norm", ["preserve", "cap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norm_rules_leave_every_bit_of_what_is_not_edited(norm, dtype):
    """Also of activations that are no contiguous block, whose lengths may be added up in another order."""
    gate = LowRankEdit(**edits.gated(edits.add(BASIS[0], 3.0), BASIS[1], 0.0).tensors(), norm=norm)
    h = normal(16, 501).to(dtype).mT
    kept = (h.double() @ BASIS[1] < -1e-2)
    assert 100 < kept.sum() < 400
    assert torch.equal(gate(h)[kept], h[kept])
    assert not torch.equal(gate(h)[~kept], h[~kept])


@pytest.mark.parametrize("name", [name for name, edit in MADE.items() if edit.norm == "none"])
@pytest.mark.parametrize("rows", [None, 2])
def test_what_is_admitted_of_an_update_is_written(name, rows):
    edit, h = MADE[name], normal(2, 3, 16, seed=5)
    edit = edit if rows is None else edit.repeated(rows)
    change = edit(h) - h
    torch.testing.assert_close(apply_edit(edit, h, lambda u: 2.5 * u) - h, 2.5 * change)
    mask = torch.tensor([[True, False, True], [False, True, False]]).unsqueeze(-1)
    spoilt = torch.where(mask, h, torch.nan)
    found = apply_edit(edit, spoilt, lambda u: torch.where(mask, u, 0.0))
    assert torch.equal(found.isnan(), ~mask.expand_as(h)), "what is not admitted does not reach other tokens"
    torch.testing.assert_close(torch.where(mask, found, 0), torch.where(mask, h + change, 0))
    assert torch.equal(apply_edit(edit, h, torch.zeros_like), h)


def test_updates_under_a_norm_rule_are_not_admitted_in_part():
    with pytest.raises(ParameterError, match="norm='cap'"):
        apply_edit(MADE["capped"], normal(2, 16), lambda u: u)


def test_updates_have_the_shape_of_the_tokens_and_half_precision_is_cast_back():
    shapes = []
    edit = MADE["adaptive"]
    h = torch.randn(2, 3, 16).bfloat16()

    def admit(u):
        shapes.append((tuple(u.shape), u.dtype))
        return u

    assert torch.equal(apply_edit(edit, h, admit), edit(h))
    assert shapes == [((2, 3, 2), torch.float32)]
