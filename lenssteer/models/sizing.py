"""How many rows a batch takes: as many as memory is thought to hold, and half as many where it did not hold them."""

import gc
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch

from lenssteer.errors import ModelError, ParameterError
from lenssteer.models.lens import LensModel
from lenssteer.models.memory import bytes_a_row, free_bytes, is_out_of_memory, peak
from lenssteer.progress import track
from lenssteer.prompts import Encoded

K = TypeVar("K")
T = TypeVar("T")
CPU_ROWS, GPU_ROWS = 512, 1024
"""Most rows of a batch whose size nobody named: larger ones were not faster."""
CPU_TOKENS = 4096
"""Most columns of a pass over prompts alone on a CPU, whose caches larger ones leave: a third slower at 65536."""
HELP = ("shorten it, free memory, load the model with dtype='bfloat16', or spread it over devices with device='auto' "
        "on backend 'hf' or 'bridge'.")
SHARE = {"cpu": 0.5, "cuda": 0.8}
"""Share of the free memory a batch may take; a CPU has other users, and MPS shares its memory with one."""


class BatchWarning(UserWarning):
    """A batch did not fit into memory and was run in smaller ones."""


def usual_rows(model: LensModel) -> int:
    """Most rows of a batch whose size nobody named; by the kind of device alone, whatever memory is free."""
    return CPU_ROWS if model.device.type == "cpu" else GPU_ROWS


@dataclass
class _Sizer:
    """How many rows the next batch takes."""

    model: LensModel
    new: int
    every_column: bool
    asked: int | None
    lost: int = 0

    @property
    def kind(self) -> str:
        return "logits" if self.every_column else "answers" if self.new else "reading"

    def rows(self, width: int) -> int:
        """For prompts of so many tokens.

        What was measured or lost is remembered by the model in rows times columns, so that it holds for other lengths.
        """
        columns = width + self.new
        known = self.model.most_cells.get(self.kind)
        fitting = max(1, known // columns) if known else None
        if self.asked is not None:
            return min(self.asked, fitting or self.asked)
        share = SHARE.get(self.model.device.type, 0.5) * free_bytes(self.model.device)
        a_row = self.model.bytes_a_cell.get(self.kind, 0.0) * columns or bytes_a_row(
            self.model, width, self.new, self.every_column)
        near = CPU_TOKENS // columns if self.model.device.type == "cpu" and not self.new else GPU_ROWS
        return max(1, min(int(share / a_row), usual_rows(self.model), near, fitting or GPU_ROWS))

    def measured(self, taken: int, rows: int, width: int) -> None:
        """Remember what a batch took, where the device tells; the dearest so far counts."""
        if taken > 0:
            a_cell = taken / (rows * (width + self.new))
            self.model.bytes_a_cell[self.kind] = max(a_cell, self.model.bytes_a_cell.get(self.kind, 0.0))

    def too_large(self, rows: int, width: int) -> None:
        """Remember that a batch did not fit.

        Raises:
            ModelError: when it was a single prompt.
        """
        if rows == 1:
            answer = f" and {self.new} tokens of answer" if self.new else ""
            raise ModelError(f"one prompt of {width} tokens{answer} does not fit into the memory of "
                             f"{self.model.device}; {HELP}")
        self.model.most_cells[self.kind] = rows // 2 * (width + self.new)
        self.lost = self.lost or rows

    def fits(self, rows: int, width: int) -> None:
        """Say once which size works after one that did not."""
        if self.lost:
            warnings.warn(f"a batch of {self.lost} rows did not fit into memory and was run again; {rows} rows of "
                          f"{width + self.new} tokens fit. Later batches are no larger.", BatchWarning, stacklevel=4)
            self.lost = 0


def fitting(
    model: LensModel,
    encoded: Sequence[Encoded],
    run: Callable[[list[int]], T],
    *,
    rows: int | None = None,
    tokens: int | None = None,
    new: int = 0,
    every_column: bool = False,
    progress: str = "",
) -> Iterator[tuple[list[int], T]]:
    """Run prompts in batches of similar length that fit into memory, longest first.

    A batch that runs out of memory is halved and run again, and later ones are no larger; the model remembers. On a
    CUDA device batches after the first are sized by what the ones before took.

    Args:
        model: What `run` runs.
        encoded: Prompts.
        run: Runs the prompts of the numbers it is given; its result may not depend on the batch they are in.
        rows: Most prompts of a batch; None finds it from the memory that is free.
        tokens: Most padded tokens of a batch; None for any number.
        new: Tokens that will follow each prompt.
        every_column: Whether logits of all columns are kept, not of the last alone.
        progress: Label of a progress bar; "" for none.

    Returns:
        Numbers of prompts, and what `run` made of them, batch by batch.

    Raises:
        ParameterError: when `rows` is not positive.
        ModelError: when a single prompt does not fit.
    """
    if rows is not None and rows < 1:
        raise ParameterError(f"expected a batch of at least one row, got {rows}; leave it out to have it found.")
    order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i].ids))
    bar = iter(track(range(len(order)), progress))
    next(bar, None)
    sizer, done = _Sizer(model, new, every_column, rows or model.most_rows), 0
    while done < len(order):
        width = len(encoded[order[done]].ids)
        most = sizer.rows(width) if tokens is None else min(sizer.rows(width), max(1, tokens // width))
        group = order[done : done + most]
        with peak(model.device) as taken:
            result = _unless_full(run, group)
        if result is None:
            sizer.too_large(len(group), width)
            continue
        sizer.measured(taken(), len(group), width)
        sizer.fits(len(group), width)
        yield group, result[0]
        done += len(group)
        deque(islice(bar, len(group)), maxlen=0)


def _unless_full(run: Callable[[list[K]], T], group: list[K]) -> tuple[T] | None:
    """What `run` returns; None, with all it held let go, where memory ran out."""
    try:
        return (run(group),)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def in_halves(run: Callable[[list[K]], T], items: Sequence[K]) -> Iterator[tuple[list[K], T]]:
    """Run a batch that others have cut; where it does not fit into memory, its halves apart.

    Raises:
        ModelError: when a single item does not fit.
    """
    result = _unless_full(run, list(items))
    if result is not None:
        yield list(items), result[0]
        return
    if len(items) == 1:
        raise ModelError(f"one item of a batch does not fit into memory; {HELP}")
    half = len(items) // 2
    warnings.warn(f"a batch of {len(items)} items did not fit into memory and is run in halves.", BatchWarning,
                  stacklevel=3)
    yield from in_halves(run, items[:half])
    yield from in_halves(run, items[half:])
