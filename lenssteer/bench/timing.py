"""Ratios of seconds: two pieces of work in turn, a b a b ..., so that a machine that slows down slows both."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from lenssteer.errors import ParameterError

Work = Callable[[], object]
INTERVAL = "95 % percentile bootstrap of the median over pairs"


@dataclass(frozen=True)
class Ratio:
    """Seconds of one piece of work over those of another, pair by pair.

    Args:
        median: Of the pairs, by wall clock.
        low, high: Its 95 % bootstrap interval over the pairs.
        pairs: Number of pairs.
        cpu: Median by CPU seconds of this process, which others on the machine touch less; None where other
            processes or a device did the work.
        over, under: Median seconds of the numerator's and of the denominator's work.
        what: Both, in words.
        target: What the median has to reach; None where nothing was promised.
        better: "lower" or "higher".
        more: What else was found.
    """

    median: float | int
    low: float | int
    high: float | int
    pairs: int
    cpu: float | int | None
    over: float | int
    under: float | int
    what: str
    target: float | int | None = None
    better: str = "lower"
    more: dict[str, Any] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None where there is none."""
        if self.target is None:
            return None
        return self.median <= self.target if self.better == "lower" else self.median >= self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {name: value for name, value in asdict(self).items() if name != "more"}
        return {**found, "met": self.met, **(self.more or {})}


@dataclass(frozen=True)
class Clock:
    """Where seconds come from.

    Args:
        wall: Seconds that pass.
        cpu: Seconds this process computes.
        settle: Waits until a device has done what it was given.
    """

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    settle: Callable[[], object] = lambda: torch.cuda.synchronize() if torch.cuda.is_available() else None

    def seconds(self, work: Work) -> tuple[float, float]:
        """Wall and CPU seconds of a piece of work."""
        self.settle()
        wall, cpu = self.wall(), self.cpu()
        work()
        self.settle()
        return self.wall() - wall, self.cpu() - cpu


def ratio(over: Work, under: Work, what: str, *, repeats: int, calls: int = 1, warm: int = 1,
          target: float | None = None, better: str = "lower", clock: Clock | None = None) -> Ratio:
    """Seconds of `over` divided by those of `under`: the median of alternating pairs.

    Args:
        over: The numerator's work.
        under: The denominator's work.
        what: Both, in words.
        repeats: Pairs.
        calls: How often each is done at a time, for work that is too short to be timed alone.
        warm: Times both are done before anything is timed.
        target: What was promised.
        better: "lower" or "higher".
        clock: Of this process by default.

    Raises:
        ParameterError: when there is no pair.
    """
    if repeats < 1:
        raise ParameterError(f"a ratio needs one pair or more, got {repeats}.")
    clock = clock or Clock()
    for _ in range(warm):
        over()
        under()
    pairs = [(clock.seconds(_often(under, calls)), clock.seconds(_often(over, calls))) for _ in range(repeats)]
    found = [b[0] / max(a[0], 1e-9) for a, b in pairs]
    cpu = None if torch.cuda.is_available() else median(b[1] / max(a[1], 1e-9) for a, b in pairs)
    low, high = interval(found)
    seconds = [median(side[0] for side in sides) / calls for sides in zip(*pairs, strict=True)]
    return Ratio(median(found), low, high, repeats, cpu, seconds[1], seconds[0], what, target, better)


def _often(work: Work, calls: int) -> Work:
    def several() -> None:
        for _ in range(calls):
            work()

    return work if calls == 1 else several


def interval(values: Sequence[float], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the median.

    >>> interval([2.0]), interval([1.0, 1.0, 1.0])
    ((2.0, 2.0), (1.0, 1.0))
    """
    given = np.asarray(values, dtype=float)
    picked = np.random.default_rng(seed).integers(0, len(given), (draws, len(given)))
    low, high = np.percentile(np.median(given[picked], axis=1), [2.5, 97.5])
    return float(low), float(high)
