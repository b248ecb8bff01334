"""The only place that changes activations of a running model."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lenssteer.edits import LowRankEdit, apply_edit
from lenssteer.errors import SteeringError
from lenssteer.prompts import Columns, Tokens
from lenssteer.steering.receipts import Meter
from lenssteer.steering.where import Where


def hook_function(
    edit: LowRankEdit,
) -> Callable[..., Float[Tensor, "batch pos d_model"]]:
    """The edit as a TransformerLens hook, for `model.run_with_hooks` and friends.

    It edits every token of the activation it is given, padding included; use a Steerer where that matters.

    >>> import torch, lenssteer.edits as edits
    >>> hook = hook_function(edits.ablate(torch.tensor([1.0, 0.0])))
    >>> hook(torch.ones(1, 1, 2), hook=None)
    tensor([[[0., 1.]]])
    """

    def steer(activation: Float[Tensor, "batch pos d_model"], hook: Any = None) -> Float[Tensor, "batch pos d_model"]:
        return apply_edit(edit, activation)

    return steer


class Chooser:
    """Evaluates `where` once a pass and shares the answer among the sites of a steerer."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self._columns: Columns | None = None
        self._chosen: Bool[Tensor, "batch chunk"] = torch.zeros(0, 0, dtype=torch.bool)
        self.seen = self.selected = 0
        self._placed: Bool[Tensor, "batch chunk 1"] | None = None

    def look(self, columns: Columns) -> None:
        """Take note of the pass under way."""
        if columns is self._columns:
            return
        self._columns, self._placed = columns, None
        self._chosen = self.where.select(columns)
        self.seen, self.selected = int(columns.real.sum()), int(self._chosen.sum())

    def mask(self, device: torch.device) -> Bool[Tensor, "batch chunk 1"] | None:
        """The chosen tokens, where the activations are; None when every column is chosen."""
        if self.selected == self._chosen.numel():
            return None
        if self._placed is None or self._placed.device != device:
            self._placed = self._chosen.to(device).unsqueeze(-1)
        return self._placed


class SiteEditor:
    """One edit at one site: places its arrays, gives every row its own, applies it to the chosen tokens, counts."""

    def __init__(self, edit: LowRankEdit, chooser: Chooser, meter: Meter) -> None:
        self.edit = edit
        self.chooser = chooser
        self.meter = meter
        self._placed: LowRankEdit | None = None
        self._tokens: Tokens | None = None
        self._rows_used: set[int] = set()

    def __call__(self, h: Float[Tensor, "batch chunk d_model"],
                 columns: Columns | None) -> Float[Tensor, "batch chunk d_model"] | None:
        if columns is None:
            return self._unattended(h)
        self.chooser.look(columns)
        if not self.chooser.selected:
            self.meter.add(self.chooser.seen, 0, h, h)
            return None
        new = apply_edit(self._for(h, columns), h)
        mask = self.chooser.mask(h.device)
        new = new if mask is None else torch.where(mask, new, h)
        self.meter.add(self.chooser.seen, self.chooser.selected, h, new)
        return new

    def _for(self, h: Tensor, columns: Columns | None) -> LowRankEdit:
        """The edit on the device of `h`, row i of it for row i of the batch; kept until either changes."""
        tokens = columns.tokens if columns is not None and self.edit.rows else None
        dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        placed = self._placed
        if placed is None or tokens is not self._tokens or placed.read.device != h.device or placed.read.dtype != dtype:
            placed = self.edit.to(h.device, dtype)
            if tokens is not None:
                placed = placed.take(tokens.rows)
                self._rows_used.update(tokens.rows.tolist())
            self._placed, self._tokens = placed, tokens
        return placed

    def require_all_rows(self) -> None:
        """Refuse a run in which some rows of a stacked edit never met a prompt.

        Raises:
            SteeringError: when there were fewer prompts than rows.
        """
        if self.edit.rows and len(self._rows_used) < self.edit.rows:
            raise SteeringError(f"the edit has {self.edit.rows} rows but only {len(self._rows_used)} prompts were run; "
                                "give one prompt a row, or take() the rows you want.")

    def _unattended(self, h: Tensor) -> Tensor:
        """Somebody runs the underlying model directly, so columns and padding are not known."""
        if self.chooser.where.kind != "all" or self.edit.rows:
            raise SteeringError("the underlying model was run directly, where lenssteer cannot see which tokens are "
                                f"which, but the steerer needs that (where={str(self.chooser.where)!r}, "
                                f"rows={self.edit.rows}); use lenssteer's generate() or logits().")
        new = apply_edit(self._for(h, None), h)
        tokens = h[..., 0].numel()
        self.meter.add(tokens, tokens, h, new)
        return new
