"""Statistics over the same prompts at two settings; the paired bootstrap is in bootstrap.py."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lenssteer.errors import ParameterError
from lenssteer.rows import wilson_interval

T = TypeVar("T")


@dataclass(frozen=True)
class McNemar:
    """Prompts on which exactly one of two settings succeeds, and how likely so uneven a split is by chance.

    Args:
        only_ours: Prompts on which only the first setting succeeds.
        only_theirs: Prompts on which only the second does.
        pairs: Prompts scored at both settings.
        unscored: Prompts left out, as one setting or both have no verdict.
        p: Two-sided exact p-value; 1 where no prompt differs.
    """

    only_ours: int
    only_theirs: int
    pairs: int
    unscored: int
    p: float


def mcnemar(ours: Sequence[bool | None], theirs: Sequence[bool | None]) -> McNemar:
    """Exact test of whether two settings succeed equally often on the same prompts.

        p = min(1, 2 sum_{k <= min(b, c)} C(b + c, k) / 2^(b + c))

    with b and c the numbers of prompts on which only one succeeds. Integer arithmetic: exact for any number of prompts.

    Args:
        ours: One verdict a prompt; None where there is none.
        theirs: Those of the other setting.

    Raises:
        ParameterError: when the numbers of verdicts differ.

    Source: McNemar 1947, Psychometrika 12(2), in its exact binomial form.
    """
    pairs = _paired(ours, theirs)
    b = sum(mine and not other for mine, other in pairs)
    c = sum(other and not mine for mine, other in pairs)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    return McNemar(b, c, len(pairs), len(ours) - len(pairs), min(1.0, 2 * tail / 2 ** (b + c)))


@dataclass(frozen=True)
class Movement:
    """Which way steering moved each prompt's score.

    Args:
        right: Prompts that moved as intended.
        wrong: Prompts that moved the other way: anti-steerable.
        still: Prompts that did not move by more than the tolerance.
        unscored: Prompts without a score before or after; in no share.
        wrong_share: Among scored prompts; None where there is none.
        low: Lower end of the 95 % Wilson interval of that share; 0 where there is none.
        high: Upper end; 1 where there is none.
    """

    right: int
    wrong: int
    still: int
    unscored: int
    wrong_share: float | None
    low: float
    high: float


def movement(before: Sequence[float | None], after: Sequence[float | None], *, up: bool = True,
             tolerance: float = 0.0) -> Movement:
    """Count the prompts whose score moved the wrong way, which a mean effect hides.

    Args:
        before: One score a prompt, unsteered; None and NaN are unscored.
        after: The scores of the same prompts, steered.
        up: Whether steering is meant to raise the score.
        tolerance: Largest change that counts as none, in units of the score.

    Raises:
        ParameterError: when the numbers of scores differ, a score is infinite, or the tolerance is negative.

    Source: anti-steerable examples, Tan et al. 2024, arXiv:2407.12404.
    Departs from the paper: the sign of one change, not of a slope over several strengths.
    """
    if not 0 <= tolerance < math.inf:
        raise ParameterError(f"tolerance is {tolerance}; it must be finite and not negative.")
    pairs = [(old, new) for old, new in _paired(before, after) if not (math.isnan(old) or math.isnan(new))]
    if any(math.isinf(score) for pair in pairs for score in pair):
        raise ParameterError("a score is infinite; give None where there is no score.")
    changes = [new - old if up else old - new for old, new in pairs]
    wrong = sum(change < -tolerance for change in changes)
    right = sum(change > tolerance for change in changes)
    share = wrong / len(pairs) if pairs else None
    low, high = wilson_interval(share or 0.0, len(pairs))
    return Movement(right, wrong, len(pairs) - wrong - right, len(before) - len(pairs), share, low, high)


def _paired(ours: Sequence[T | None], theirs: Sequence[T | None]) -> list[tuple[T, T]]:
    """The pairs that are scored on both sides."""
    if len(ours) != len(theirs):
        raise ParameterError(f"expected the same prompts at both settings; got {len(ours)} and {len(theirs)} scores.")
    return [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine is not None and other is not None]
