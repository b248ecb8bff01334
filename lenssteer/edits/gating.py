"""Per-token gates: any edit, on one side of a probe."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, unit
from lenssteer.errors import ParameterError, ShapeError


def gated(edit: LowRankEdit, direction: Float[Tensor, "*#rows d_model"],
          threshold: float | int | Float[Tensor, "*#rows"], *, above: bool = True) -> LowRankEdit:
    """The same edit, only on tokens that project on a direction above (or below) a threshold.

        open  iff  v.h > threshold   (v.h < threshold)        v = direction / |direction|

    A probe w.h + b is the gate direction=w, threshold=-b/|w|. Conditions the edit has already must hold as well. The
    probe is one more coordinate, read and never written.

    Args:
        edit: What happens where the gate is open.
        direction: Any length, [d_model].
        threshold: In units of the activation; strict.
        above: Which side is edited.

    Returns:
        An edit of one rank more.

    Raises:
        ShapeError: when d_model or the number of rows disagrees.
        ParameterError: when the direction is zero, or the threshold not finite.

    Source: probe gates as in SafeSwitch, arXiv:2502.01042, here on a steering edit.
    """
    read = unit(direction).to(edit.read)
    level = amount(threshold, "threshold", read).unsqueeze(-1)
    if read.shape[-1] != edit.d_model:
        raise ShapeError(f"the gate reads d_model {read.shape[-1]}, the edit {edit.d_model}.")
    rows = {t.shape[0] for t in (read, level) if t.ndim > 1} | ({edit.rows} if edit.rows is not None else set[int]())
    if len(rows) > 1:
        raise ShapeError(f"edit, direction and threshold carry different numbers of rows: {sorted(rows)}.")
    if not (read != 0).any(-1).all():
        raise ParameterError("the gate's direction is zero, so that it cannot tell tokens apart; give another.")
    joined = _with_coordinate(edit, read.unsqueeze(-2))
    rank = edit.rank
    gate = torch.zeros(rank + 1, rank + 1).to(read)
    gate[:rank, rank] = 1.0 if above else -1.0
    bound = torch.cat([level.new_zeros(*level.shape[:-1], rank), level], -1)
    if edit.gate is not None and edit.threshold is not None:
        gate = gate + torch.nn.functional.pad(edit.gate, (0, 1, 0, 1))
        bound = bound + torch.nn.functional.pad(edit.threshold, (0, 1))
    return replace(joined, gate=gate, threshold=bound)


def _with_coordinate(edit: LowRankEdit, read: Tensor) -> LowRankEdit:
    """One more coordinate after those of the edit, read and never written; its gate is left out."""
    def both(a: Tensor, b: Tensor) -> Tensor:
        lead = a.shape[:-2] or b.shape[:-2]
        return torch.cat([a.expand(*lead, *a.shape[-2:]), b.expand(*lead, *b.shape[-2:])], -2)

    pad = torch.nn.functional.pad
    return replace(edit, read=both(edit.read, read), write=both(edit.write, torch.zeros_like(read)),
                   gain=pad(edit.gain, (0, 1, 0, 1)), offset=pad(edit.offset, (0, 1)), radial=pad(edit.radial, (0, 1)),
                   bias=pad(edit.bias, (0, 1)), gate=None, threshold=None)
