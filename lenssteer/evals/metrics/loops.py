"""Loops: an answer that ends by saying the same thing over and over."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lenssteer.errors import ParameterError

LEAST_CHARACTERS, LEAST_TOKENS = 40, 12


@dataclass(frozen=True)
class Loop:
    """A tail that repeats.

    Args:
        period: Characters, or tokens, of one turn of the loop.
        length: Of the whole tail, which may begin and end inside a turn.
    """

    period: int
    length: int

    @property
    def turns(self) -> float:
        """How often the loop is said."""
        return self.length / self.period


def tail_loop(answer: str | Sequence[Hashable], *, turns: int = 3, least: int | None = None) -> Loop | None:
    """The shortest loop an answer ends in, or None; in linear time.

        tail[i] = tail[i - period]        for every i of the tail after its first turn

    Args:
        answer: A text, searched by character, less white space at its end; or token ids.
        turns: Fewest full turns of a loop.
        least: Fewest characters or tokens of the whole tail, so that "!!!" is no loop; 40 characters or 12 tokens
            where none is given.

    Raises:
        ParameterError: when turns is below 2, or least below 1.
    """
    if turns < 2 or (least is not None and least < 1):
        raise ParameterError(f"expected at least two turns and a least length of at least 1; got {turns}, {least}.")
    units = answer.rstrip() if isinstance(answer, str) else answer
    shortest = least or (LEAST_CHARACTERS if isinstance(answer, str) else LEAST_TOKENS)
    for period, matched in enumerate(_overlaps(units[::-1])):
        if period and matched + period >= max(turns * period, shortest):
            return Loop(period, matched + period)
    return None


def _overlaps(units: Sequence[Hashable]) -> list[int]:
    """For every start, how many units from there equal those from the beginning (the Z function)."""
    found = [0] * len(units)
    left = right = 0
    for i in range(1, len(units)):
        n = min(right - i, found[i - left]) if i < right else 0
        while i + n < len(units) and units[n] == units[i + n]:
            n += 1
        found[i] = n
        if i + n > right:
            left, right = i, i + n
    return found
