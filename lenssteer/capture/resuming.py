"""A pass over prompts that goes on where a killed one stopped: what was read is kept, and only the rest is run.

Batches are cut from the longest prompt down, so those of the rest are those of an uninterrupted pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from types import TracebackType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.artefacts.unfinished import Unfinished
from lenssteer.capture.positions import ReadAt
from lenssteer.maths import Moments
from lenssteer.models import LensModel
from lenssteer.prompts import Encoded
from lenssteer.site import Site

Batch = tuple[Int[Tensor, " batch"], Float[Tensor, "sites batch d_model"]]


def key_of(kept: Unfinished, model: LensModel, encoded: Sequence[Encoded], positive: int, sites: Sequence[Site],
           at: ReadAt, kind: str) -> str:
    """Hash of what a pass depends on: the model, the tokens, and what is read where."""
    tokens = [(list(one.ids), list(one.instruction), one.prompt_end) for one in encoded]
    return kept.key(kind=kind, model=asdict(model.card), tokens=tokens, positive=positive, at=str(at),
                    sites=[str(site) for site in sites], lenssteer=version("lenssteer"), torch=torch.__version__)


class Samples:
    """The prompts that were read, one activation a site; new ones are written every few seconds and at the end.

    Args:
        kept: Where they are kept; None for nowhere.
        key: See `key_of`.
        count: Number of prompts.
    """

    def __init__(self, kept: Unfinished | None, key: str, count: int) -> None:
        self.kept, self.key = kept, key
        self.earlier: list[Batch] = [] if kept is None else [
            (piece["prompt"], piece["activations"]) for piece in kept.tensors(key, ("prompt", "activations"))]
        self.left = _left(count, [rows for rows, _ in self.earlier])
        self._new: list[Batch] = []

    def __enter__(self) -> "Samples":
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, rows: Int[Tensor, " batch"], read: Float[Tensor, "sites batch d_model"]) -> None:
        """Take what was read of some prompts."""
        if self.kept is not None:
            self._new.append((rows, read))
            if self.kept.due:
                self._write()

    def _write(self) -> None:
        if self.kept is not None and self._new:
            self.kept.keep_tensors(self.key, {"prompt": torch.cat([rows for rows, _ in self._new]),
                                              "activations": torch.cat([read for _, read in self._new], 1)})
            self._new = []


class Sums:
    """Moments of the prompts that were read, by class; they are written every few seconds.

    Args:
        scatter: Whether second moments are kept.
        most: Values held before they are merged.
        positive: How many prompts are positive; they come first.
        count: Number of prompts.
        kept: Where they are kept; None for nowhere.
        key: See `key_of`.
    """

    def __init__(self, scatter: bool, most: int, positive: int, count: int, kept: Unfinished | None, key: str) -> None:
        self.scatter, self.most, self.positive, self.kept, self.key = scatter, most, positive, kept, key
        self.totals: dict[str, Moments] = {}
        self._held: list[Batch] = []
        self._merged: list[Tensor] = []
        self._written = 0
        for piece in kept.tensors(key, ("prompt",)) if kept is not None else ():
            self._merged, self._written = [piece["prompt"]], 1
            self.totals = dict(_unpacked(piece))
        self.left = _left(count, self._merged)

    def __enter__(self) -> "Sums":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """What is held but not merged is let go when an exception ends the pass: merging it now would round otherwise
        than an uninterrupted pass does."""
        if kind is None:
            self._merge()
        if self.kept is not None and (kind is not None or self.kept.due):
            self._write()

    def add(self, rows: Int[Tensor, " batch"], read: Float[Tensor, "sites batch d_model"]) -> None:
        """Take what was read of some prompts."""
        self._held.append((rows, read))
        if sum(part.numel() for _, part in self._held) >= self.most:
            self._merge()
            if self.kept is not None and self.kept.due:
                self._write()

    def _merge(self) -> None:
        """Merge what is held into the totals, and hold nothing."""
        if not self._held:
            return
        rows, read = torch.cat([rows for rows, _ in self._held]), torch.cat([part for _, part in self._held], 1)
        self._held.clear()
        is_positive = rows < self.positive
        unit = read / read.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        for name, chosen in (("positive", is_positive), ("negative", ~is_positive)):
            if chosen.any():
                for key, batch in ((name, Moments.of(read[:, chosen], scatter=self.scatter)),
                                   (name + "_unit", Moments.of(unit[:, chosen], scatter=False))):
                    self.totals[key] = self.totals[key] + batch if key in self.totals else batch
        self._merged.append(rows)

    def _write(self) -> None:
        if self.kept is not None and len(self._merged) > self._written:
            self._merged = [torch.cat(self._merged)]
            self.kept.keep_tensors(self.key, {"prompt": self._merged[0], **_packed(self.totals)}, alone=True)
            self._written = 1


def _left(count: int, done: Sequence[Tensor]) -> Int[Tensor, " left"]:
    """Numbers of the prompts that are still to be read."""
    missing = torch.ones(count, dtype=torch.bool)
    for rows in done:
        missing[rows] = False
    return missing.nonzero()[:, 0]


def _packed(totals: dict[str, Moments]) -> dict[str, Tensor]:
    packed = {}
    for name, moments in totals.items():
        packed |= {f"{name}/n": torch.tensor(moments.n), f"{name}/mean": moments.mean}
        packed |= {} if moments.scatter is None else {f"{name}/scatter": moments.scatter}
    return packed


def _unpacked(piece: dict[str, Tensor]) -> Iterator[tuple[str, Moments]]:
    for name in sorted({key.partition("/")[0] for key in piece if "/" in key}):
        yield name, Moments(int(piece[f"{name}/n"]), piece[f"{name}/mean"], piece.get(f"{name}/scatter"))
