"""The only place that changes activations of a running model."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits import LowRankEdit, apply_edit
from lenssteer.errors import SteeringError
from lenssteer.prompts import Columns, Tokens
from lenssteer.steering.chooser import Chooser
from lenssteer.steering.protocol import Edit
from lenssteer.steering.receipts import Meter


def hook_function(
    edit: Edit,
) -> Callable[..., Float[Tensor, "batch pos d_model"]]:
    """The edit as a TransformerLens hook, for `model.run_with_hooks` and friends.

    It edits every token of the activation it is given, padding included; use a Steerer where that matters.

    >>> import torch, lenssteer.edits as edits
    >>> hook = hook_function(edits.ablate(torch.tensor([1.0, 0.0])))
    >>> hook(torch.ones(1, 1, 2), hook=None)
    tensor([[[0., 1.]]])
    """

    def steer(activation: Float[Tensor, "batch pos d_model"], hook: Any = None) -> Float[Tensor, "batch pos d_model"]:
        return edit(activation)

    return steer


class SiteEditor:
    """One edit at one site: places its arrays, gives every row its own, applies it to the chosen tokens, counts.

    With `shared`, every chosen token of a prompt gets the change of the row's last prompt token. `trace` is told of
    every pass; see `Trace.add`.
    """

    def __init__(self, edit: Edit, chooser: Chooser, meter: Meter, shared: bool = False,
                 trace: Callable[..., None] | None = None) -> None:
        self.edit = edit
        self.chooser = chooser
        self.meter = meter
        self.shared = shared
        self.trace = trace
        self._placed: tuple[torch.device, torch.dtype, Tokens | None, Edit, Tensor | None] | None = None
        self._rows_used: set[int] = set()

    def __call__(self, h: Float[Tensor, "batch chunk d_model"],
                 columns: Columns | None) -> Float[Tensor, "batch chunk d_model"] | None:
        if columns is None:
            return self._unattended(h)
        self.chooser.look(columns)
        if not self.chooser.selected:
            self.meter.add(self.chooser.seen, 0, h, h)
            if self.trace is not None:
                self.trace(columns, self.chooser.chosen)
            return None
        edit, direction = self._for(h, columns)
        new = self.chooser.admit(h, _by_last_prompt(edit, h, columns)) if self.shared else self._edited(edit, h)
        self.meter.add(self.chooser.seen, self.chooser.selected, h, new, direction, self.chooser.real_on(h.device))
        if self.trace is not None:
            self.trace(columns, self.chooser.chosen, h, new)
        return new

    def _edited(self, edit: Edit, h: Tensor) -> Tensor:
        """The edit where the chooser admits it; of a low-rank edit, it is asked about a few numbers a token."""
        chooser = self.chooser
        if chooser.keeper is None and chooser.schedule is None and chooser.selected == chooser.chosen.numel():
            return edit(h)
        if h.is_cuda or not isinstance(edit, LowRankEdit) or edit.norm != "none":
            return chooser.admit(h, edit(h))
        return apply_edit(edit, h, lambda u: chooser.admit(torch.zeros_like(u), u))

    def _for(self, h: Tensor, columns: Columns | None) -> tuple[Edit, Tensor | None]:
        """The edit and its direction on the device of `h`, row i for row i of the batch; kept until either changes."""
        tokens = columns.tokens if columns is not None and self.edit.rows else None
        dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        if self._placed is None or self._placed[0] != h.device or self._placed[1] != dtype \
                or self._placed[2] is not tokens:
            placed = self.edit.to(h.device, dtype)
            if tokens is not None:
                placed = placed.take(tokens.rows)
                self._rows_used.update(tokens.rows.tolist())
            self._placed = (h.device, dtype, tokens, placed, _direction(placed))
        return self._placed[3], self._placed[4]

    @property
    def reads_prompt(self) -> bool:
        """Whether prompt tokens may be edited; see `LensModel.attach`."""
        return self.chooser.where.edits_prompt and not self.chooser.answer_only

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
        if self.chooser.needs_columns or self.edit.rows:
            raise SteeringError("the underlying model was run directly, where lenssteer cannot see which tokens are "
                                f"which, but the steerer needs that (where={str(self.chooser.where)!r}, "
                                f"rows={self.edit.rows}, gate or schedule); use lenssteer's generate() or logits().")
        edit, direction = self._for(h, None)
        new = edit(h)
        tokens = h[..., 0].numel()
        self.meter.add(tokens, tokens, h, new, direction)
        return new


def _by_last_prompt(edit: Edit, h: Tensor, columns: Columns) -> Tensor:
    """`h`, every token of it moved by the change that the edit makes to the last prompt token of its row."""
    column = columns.tokens.prompt_end - 1 - columns.start
    if (column >= h.shape[1]).any():
        raise SteeringError("the change of the last prompt token is wanted, but the prompt came in pieces.")
    last = h[torch.arange(len(h), device=h.device), column.to(h.device)].unsqueeze(1)
    return h + (edit(last) - last)


def _direction(edit: Edit) -> Float[Tensor, "#batch one d_model"] | None:
    """Unit vector of the first line an edit writes, [1 or batch, 1, d_model]; None where it writes nothing."""
    write = getattr(edit, "write", None)
    if write is None or not write.any():
        return None
    line = write[..., :1, :]
    length = line.norm(dim=-1, keepdim=True)
    return (line / torch.where(length > 0, length, 1)).reshape(-1, 1, line.shape[-1])
