"""How an edit is applied: what does not depend on the activation is worked out once, the rest in few operations.

A decoding step edits a few tokens at every site, and there an operation costs about the same whatever its size. An edit
without radius and gate is one product that reads and one that writes; radius and gate work on the few numbers between.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.linalg import vector_norm

from lenssteer.edits.arithmetic import affine, moved, rescaled, spread, with_norm_rule

if TYPE_CHECKING:
    from lenssteer.edits.edit import LowRankEdit


class Plan:
    """An edit ready for activations [tokens, d_model], or [rows, tokens, d_model] where it has rows.

    Args:
        edit: On the device of the activations; in float64 for float64 activations, else in float32.
    """

    def __init__(self, edit: "LowRankEdit") -> None:
        self.edit = edit
        self.dtype = edit.read.dtype
        self.is_affine = edit.gate is None and not edit.is_radial and edit.rows is None
        self.lines, self.shift = edit.affine if self.is_affine else (edit.read, edit.bias)
        self.written = None if bool(edit.written.all()) else spread(edit.written, 1)
        self.gate = None if edit.gate is None or edit.threshold is None else (spread(edit.gate, 2),
                                                                              spread(edit.threshold, 1))
        self.comparison = _comparison(edit)
        precision = torch.finfo(self.dtype)
        self.rounding, self.tiny = 16 * precision.eps, edit.offset.new_tensor(precision.tiny)
        self.zero = edit.offset.new_zeros(())

    def __call__(self, h: Tensor) -> Tensor:
        """Edited activations. Those of half precision get the change cast; all others are never more than rounded."""
        edit = self.edit
        if edit.norm == "none":
            return h + edit.constant.to(h.dtype) if edit.is_constant else self.moved(h, self.update(h))
        if h.dtype != self.dtype:
            wide = h.to(self.dtype)
            return h + with_norm_rule(self.update(wide) @ edit.write, wide, edit.norm).to(h.dtype)
        size = vector_norm(h, dim=-1, keepdim=True)
        limit = self._limit(size)
        u = self.update(h, limit)
        touched = (u if self.written is None else u * self.written) != 0
        touched = touched if edit.rank == 1 else touched.any(-1, keepdim=True)
        return rescaled(moved(h, u, edit.write), h, touched, size, limit, edit.norm)

    def moved(self, h: Tensor, u: Tensor) -> Tensor:
        """h + u write."""
        write = self.edit.write
        return moved(h, u, write) if h.dtype == self.dtype else h + (u @ write).to(h.dtype)

    def _limit(self, size: Tensor) -> Tensor:
        """Lengths below this are what rounding leaves of activations of length `size`."""
        return torch.add(self.tiny, size, alpha=self.rounding)

    def update(self, h: Tensor, limit: Tensor | None = None) -> Tensor:
        """u of every token; `limit` is the length that rounding leaves of it, where that is known."""
        edit, h = self.edit, h if h.dtype == self.dtype else h.to(self.dtype)
        if edit.is_constant:
            return spread(edit.offset, 1).expand(*h.shape[:-1], edit.rank)
        c = self._linear(h, self.lines, self.shift)
        if self.is_affine:
            return c
        u = self._linear(c, edit.gain, edit.offset)
        if edit.is_radial:
            u = torch.addcmul(u, self._radius(c, h, limit), spread(edit.radial, 1))
        return u if self.gate is None else torch.where(self._open(c, *self.gate), u, self.zero)

    def _linear(self, h: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        return affine(h, matrix, shift) if self.edit.rows is None else h @ matrix.mT + spread(shift, 1)

    def _radius(self, c: Tensor, h: Tensor, limit: Tensor | None) -> Tensor:
        c = c if self.written is None else c * self.written
        if self.edit.radius == "plane":
            return vector_norm(c, dim=-1, keepdim=True)
        limit = self._limit(vector_norm(h, dim=-1, keepdim=True)) if limit is None else limit
        rest = vector_norm(moved(h, -c, self.edit.read), dim=-1, keepdim=True)
        return torch.where(rest > limit, rest, self.zero)

    def _open(self, c: Tensor, signs: Tensor, threshold: Tensor) -> Tensor:
        if self.comparison is None:
            margin = signs * (c - threshold).unsqueeze(-2)
            return ((margin > 0) | (signs == 0)).all(-1)
        place, is_above = self.comparison
        if self.edit.rank > 1:
            c, threshold = c[..., place : place + 1], threshold[..., place : place + 1]
        return c > threshold if is_above else c < threshold


def _comparison(edit: "LowRankEdit") -> tuple[int, bool] | None:
    """The one comparison that opens all that is written: of which coordinate, and whether it must lie above.

    None where there is no gate, or where it takes several comparisons.
    """
    if edit.gate is None or edit.gate.ndim > 2:
        return None
    signs = edit.gate[edit.written.reshape(-1, edit.rank).any(0)]
    places = signs[:1].nonzero()[:, 1].tolist()
    if len(places) != 1 or not bool((signs == signs[:1]).all()):
        return None
    return places[0], bool(signs[0, places[0]] > 0)
