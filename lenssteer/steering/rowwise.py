"""Several steerers in one batch, each on rows of its own."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.edits import LowRankEdit
from lenssteer.errors import ParameterError, SteeringError
from lenssteer.models import LensModel, wrap
from lenssteer.models.lens import SiteHook
from lenssteer.prompts import Columns, Tokens
from lenssteer.site import Site
from lenssteer.steering.receipts import Receipt
from lenssteer.steering.session import Session, accountable, attached
from lenssteer.steering.steerer import Steerer

Part = tuple[Steerer | None, int]
"""A steerer and its number of rows; None leaves them unsteered."""


@dataclass(frozen=True, eq=False)
class Rowwise:
    """Steerers side by side: each sees its rows of a call and nothing of the others.

    Whatever a steerer brings along (gate, schedule, rule for tokens, stacked edits) therefore means what it means
    alone. Rows of None, and rows whose steerer has no edit at a site, pass that site bit for bit.

    Args:
        parts: Each steerer and its number of rows, in the order of the rows; None leaves its rows unsteered.

    Raises:
        ParameterError: when there is no part, a part has no row, or a stacked steerer has another number of rows.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts or any(rows < 1 for _, rows in self.parts):
            raise ParameterError("expected steerers with at least one row each.")
        for steerer, rows in self.parts:
            stacked = {edit.rows for edit in steerer.edits.values() if edit.rows} if steerer is not None else set[int]()
            if stacked - {rows}:
                raise ParameterError(f"a part of {rows} rows has edits stacked for {min(stacked - {rows})}; give one "
                                     "amount a row.")

    @contextmanager
    def on(self, model: Any) -> Iterator[tuple[Receipt | None, ...]]:
        """Steer a model for the length of a `with` block; one receipt a part, None for an unsteered one.

        Raises:
            MismatchError: when a steerer was made for another model.
            SteeringError: at the end of the block, when an edit fired nowhere or broke the activations.
        """
        lens = model if isinstance(model, LensModel) else wrap(model)
        for steerer, _ in self.parts:
            if steerer is not None:
                steerer.check(lens)
        sessions = [Session(steerer) if steerer is not None else None for steerer, _ in self.parts]
        at: dict[Site, list[tuple[_Rows, SiteHook]]] = defaultdict(list)
        stops = accumulate(rows for _, rows in self.parts)
        for session, stop, (_, count) in zip(sessions, stops, self.parts, strict=True):
            own = _Rows(stop - count, stop)
            for site, hook in [*session.readers, *session.editors.items()] if session is not None else []:
                at[site].append((own, hook))
        running = [session for session in sessions if session is not None]
        with accountable(running), attached(lens, ((site, _SideBySide(hooks)) for site, hooks in at.items())):
            yield tuple(session.receipt if session is not None else None for session in sessions)


def merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same parts; neighbours that differ only in the arrays of their low-rank edits become one stacked steerer.

    Sites, norm rules, radii, schedules and rules for tokens agree then, and there is no gate. All others stay apart.
    """
    groups: list[list[Part]] = []
    for part in parts:
        kind = _kind(part[0])
        if groups and kind is not None and kind == _kind(groups[-1][0][0]):
            groups[-1].append(part)
        else:
            groups.append([part])
    return tuple(_stacked(group) if len(group) > 1 else group[0] for group in groups)


def _kind(steerer: Steerer | None) -> Any:
    """What steerers must agree on to be stacked; None where one cannot be."""
    if steerer is None or steerer.gate is not None:
        return None
    options = [(site, edit.norm, edit.radius) for site, edit in sorted(steerer.edits.items(), key=lambda item: item[0])
               if isinstance(edit, LowRankEdit)]
    if len(options) < len(steerer.edits):
        return None
    return steerer.where, steerer.schedule, steerer.shared_from, steerer.card, options


def _stacked(group: Sequence[Part]) -> Part:
    at: dict[Site, list[LowRankEdit]] = defaultdict(list)
    for steerer, rows in group:
        for site, edit in steerer.edits.items() if steerer is not None else ():
            if isinstance(edit, LowRankEdit):
                at[site].append(edit.repeated(rows))
    edits = {site: LowRankEdit.stack(own) for site, own in at.items()}
    first = group[0][0]
    return (replace(first, edits=edits, provenance={}) if first is not None else None), sum(rows for _, rows in group)


class _Rows:
    """One part's rows of the pass under way, numbered from 0."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self._whole: Columns | None = None
        self._own: Columns | None = None
        self._index = self._placed = torch.zeros(0, dtype=torch.long)

    def of(self, columns: Columns) -> Columns:
        """The part's own columns; the same object while `columns` is, with the same tokens while its tokens are."""
        if self._own is None or self._whole is not columns:
            same = self._own is not None and self._whole is not None and self._whole.tokens is columns.tokens
            tokens = self._own.tokens if self._own is not None and same else self._taken(columns.tokens)
            ids = columns.ids[self._index] if columns.ids is not None else None
            self._whole, self._own = columns, Columns(columns.start, columns.mask[self._index], tokens, ids)
        return self._own

    def _taken(self, tokens: Tokens) -> Tokens:
        self._index = ((tokens.rows >= self.start) & (tokens.rows < self.stop)).nonzero()[:, 0]
        self._placed = self._index
        own = tokens.take(self._index)
        return replace(own, rows=own.rows - self.start)

    def index(self, device: torch.device) -> Int[Tensor, " own"]:
        """Where they stand in the batch; kept on the device."""
        if self._placed.device != device:
            self._placed = self._index.to(device)
        return self._placed


class _SideBySide:
    """The hooks of all parts at one site."""

    def __init__(self, hooks: list[tuple[_Rows, SiteHook]]) -> None:
        self.hooks = hooks
        self.reads_prompt = any(getattr(hook, "reads_prompt", True) for _, hook in hooks)

    def __call__(self, h: Float[Tensor, "few chunk d_model"],
                 columns: Columns | None) -> Float[Tensor, "few chunk d_model"] | None:
        if columns is None:
            raise SteeringError("the underlying model was run directly, where lenssteer cannot see which row is whose; "
                                "use lenssteer's generate() or logits().")
        out, every = h, len(columns.tokens.rows)
        for rows, hook in self.hooks:
            own = rows.of(columns)
            if not len(own.tokens.rows):
                continue
            # With fewer rows than columns know of, prompts share the pass, and no hook here looks at them.
            index = slice(None) if len(own.tokens.rows) == every or len(h) < every else rows.index(h.device)
            new = hook(h[index], own)
            if new is not None:
                out = out.clone() if out is h else out
                out[index] = new
        return None if out is h else out
