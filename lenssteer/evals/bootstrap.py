"""Paired bootstrap: how sure a difference between two settings on the same prompts is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lenssteer.errors import ParameterError


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_difference(ours: Sequence[float], theirs: Sequence[float], *, draws: int = 2000,
                      seed: int = 0) -> Difference:
    """Mean of ours - theirs over the same prompts, with a percentile bootstrap interval.

    Prompts are drawn with replacement, both scores of a prompt together, so what makes a prompt hard cancels.

    Args:
        ours: One score a prompt.
        theirs: The scores of the other setting on the same prompts.
        draws: Bootstrap resamples.
        seed: Of the resampling.

    Raises:
        ParameterError: when there is no prompt, or the numbers of scores differ.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    if not ours or len(ours) != len(theirs):
        raise ParameterError(f"a paired difference needs two scores a prompt; got {len(ours)} and {len(theirs)}.")
    difference = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    picked = np.random.default_rng(seed).integers(0, len(difference), (draws, len(difference)))
    low, high = np.percentile(difference[picked].mean(1), [2.5, 97.5])
    return Difference(float(difference.mean()), float(low), float(high))
