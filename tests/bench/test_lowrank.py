import torch
from torch.utils.flop_counter import FlopCounterMode

from lenssteer.bench.lowrank import dense, dense_flops, lowrank_flops
from lenssteer.edits import apply_edit, rotate_by
from lenssteer.maths import random_plane

EDIT = rotate_by(random_plane(64, 0), degrees=70)


def test_the_dense_form_is_the_edit():
    """The papers' matrix, written out: I - P + B^T R B."""
    h = torch.randn(5, 64, dtype=torch.float64)
    angle = torch.deg2rad(torch.tensor(70.0, dtype=torch.float64))
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    theirs = torch.eye(64, dtype=torch.float64) - EDIT.read.T @ EDIT.read + EDIT.read.T @ turn @ EDIT.read
    torch.testing.assert_close(h @ dense(EDIT), h @ theirs.T)
    torch.testing.assert_close(h @ dense(EDIT), apply_edit(EDIT, h))


def test_flops_are_those_torch_counts():
    h = torch.randn(10, 64, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter:
        h @ dense(EDIT)
    matrix = 2 * 64 * 2 * 2 + 2 * 64 * 2 * 64
    assert counter.get_total_flops() - matrix == dense_flops(64, 10)
    with FlopCounterMode(display=False) as counter:
        ((h @ EDIT.read.T) @ EDIT.gain.T) @ EDIT.write
    assert counter.get_total_flops() == lowrank_flops(EDIT, 10)


def test_the_target_of_the_issue_follows_from_the_width():
    edit = rotate_by(random_plane(4096, 0), degrees=70)
    assert dense_flops(4096, 7) / lowrank_flops(edit, 7) >= 50
