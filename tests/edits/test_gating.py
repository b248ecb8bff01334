import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.errors import ParameterError, ShapeError
from lenssteer.maths import random_plane
from tests.edits.test_edit import random_edit
from tests.edits.test_methods import SEEDS, draw


def expected(edit: LowRankEdit, h: torch.Tensor, w: torch.Tensor, threshold: float, above: bool) -> torch.Tensor:
    """Token by token: the edit, or nothing."""
    projection = [float(x @ w / w.norm()) for x in h]
    return torch.stack([edit(x) if (p > threshold if above else p < threshold) else x
                        for x, p in zip(h, projection, strict=True)])


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, has_gate=st.booleans(), above=st.booleans(), threshold=st.floats(-10, 10),
       norm=st.sampled_from(["none", "preserve", "cap"]))
def test_a_token_is_edited_or_left_by_its_projection(seed, has_gate, above, threshold, norm):
    """Radial edits too: the probe's coordinate does not count towards the radius. The edit's own gate must hold as well."""
    edit = random_edit(2, 7, seed, gated=has_gate, norm=norm)
    w, h = draw(7, seed + 1, 1)[0], draw(7, seed + 2, 8)
    probed = edits.gated(edit, w, threshold, above=above)
    wanted = expected(edit, h, w, threshold, above)
    assert probed.rank == edit.rank + 1
    np.testing.assert_allclose(probed(h), wanted, rtol=1e-12, atol=1e-12 * (1 + wanted.abs().max().item()))
    left = (wanted == h).all(-1)
    assert torch.equal(probed(h)[left], h[left])


@pytest.mark.parametrize("edit", [
    edits.rotate_to(random_plane(7, 0), degrees=70, adaptive=True), edits.rotate_by(random_plane(7, 0), degrees=70),
    edits.set_angle(torch.ones(7, dtype=torch.float64), degrees=40), edits.add(torch.ones(7, dtype=torch.float64), 30.0),
    edits.steer_to_target(torch.ones(7, dtype=torch.float64), boundary=0, target=5),
], ids=["rotate_to", "rotate_by", "set_angle", "add", "steer_to_target"])
@pytest.mark.parametrize("above", [True, False])
def test_methods_can_be_gated(edit, above):
    w, h = draw(7, 1, 1)[0], draw(7, 2, 40)
    found = edits.gated(edit, w, 1.0, above=above)(h)
    np.testing.assert_allclose(found, expected(edit, h, w, 1.0, above), atol=1e-10)
    assert 0 < (found == h).all(-1).sum() < 40, "both sides occur"


def test_a_probe_opens_where_its_logit_is_positive():
    """threshold = -b / |w|."""
    w, h, b = draw(7, 1, 1)[0], draw(7, 2, 60), 25.0
    edit = edits.gated(edits.add(torch.ones(7)), w, -b / w.norm().item())
    assert torch.equal((edit(h) != h).any(-1), h @ w + b > 0)


@pytest.mark.parametrize("above", [True, False])
def test_the_gate_is_strict(above):
    axis = torch.eye(1, 3, dtype=torch.float64)[0]
    edit = edits.gated(edits.add(torch.ones(3)), axis, 2.0, above=above)
    assert torch.equal(edit(2 * axis), 2 * axis)
    beside = (2 + 1e-9 if above else 2 - 1e-9) * axis
    assert not torch.equal(edit(beside), beside)


def test_two_gates_are_a_conjunction():
    v, w, h = draw(7, 0, 1)[0], draw(7, 1, 1)[0], draw(7, 2, 60)
    edit = edits.gated(edits.gated(edits.add(torch.ones(7)), v, 1.0), w, -2.0, above=False)
    both = (h @ v / v.norm() > 1) & (h @ w / w.norm() < -2)
    assert 0 < both.sum() < 60
    assert torch.equal((edit(h) != h).any(-1), both)


@pytest.mark.parametrize("what", ["edit", "direction", "threshold", "all"])
def test_every_part_may_carry_rows(what):
    h = draw(7, 9, 15).reshape(3, 5, 7)
    many = [random_edit(2, 7, seed, gated=True) for seed in range(3)]
    w, levels = draw(7, 1, 3), torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64)
    edit = LowRankEdit.stack(many) if what in ("edit", "all") else many[0]
    direction = w if what in ("direction", "all") else w[0]
    threshold = levels if what in ("threshold", "all") else 1.0
    found = edits.gated(edit, direction, threshold)(h)
    for i in range(3):
        one = expected(many[i] if what in ("edit", "all") else many[0], h[i], w[i] if direction.ndim > 1 else w[0],
                       levels[i].item() if what in ("threshold", "all") else 1.0, True)
        np.testing.assert_allclose(found[i], one, rtol=1e-12, atol=1e-10)


def test_gates_that_cannot_work_are_refused():
    edit = edits.ablate(torch.ones(3, 5))
    with pytest.raises(ShapeError, match="reads d_model 4, the edit 5"):
        edits.gated(edit, torch.ones(4), 0.0)
    for direction, threshold in ((torch.ones(2, 5), 0.0), (torch.ones(5), torch.zeros(2))):
        with pytest.raises(ShapeError, match=r"different numbers of rows: \[2, 3\]"):
            edits.gated(edit, direction, threshold)
    with pytest.raises(ParameterError, match="direction is zero"):
        edits.gated(edit, torch.zeros(5), 0.0)
    with pytest.raises(ParameterError, match="threshold must be"):
        edits.gated(edit, torch.ones(5), float("nan"))
