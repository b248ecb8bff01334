"""One finished cell of a sweep, as a line of JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from lenssteer.errors import ParameterError
from lenssteer.prompts import Prompt
from lenssteer.sweeps.grid import Cell

Scores = Mapping[str, Sequence[float | int | None]]
Scorer = Callable[[Sequence[Prompt], Sequence[str]], Scores]


@dataclass(frozen=True)
class CellRow:
    """What a cell gave.

    Args:
        cell: Its hash.
        method, amount_name, amount, source, sites, where, settings: The setting; see `Cell`.
        decoding: How answers were drawn.
        n: Number of prompts.
        scores: One number a prompt, by name; None is unscored.
        answers: The answers, where they were kept.
        error: Why the setting could not be run; then there are no scores.
    """

    cell: str
    method: str
    amount_name: str
    amount: float | None
    source: str
    sites: list[str]
    where: str
    settings: dict[str, Any]
    decoding: dict[str, Any]
    n: int
    scores: dict[str, list[float | None]]
    answers: list[str] | None = None
    error: str | None = None

    @classmethod
    def of(cls, cell: Cell, sha256: str, n: int, scores: Scores, answers: list[str] | None = None,
           error: str | None = None) -> "CellRow":
        """The row of a cell.

        Raises:
            ParameterError: when there is not one finite score or None a prompt.
        """
        plain = {name: [None if value is None else float(value) for value in values]
                 for name, values in scores.items()}
        for name, values in plain.items():
            bad = [value for value in values if value is not None and not math.isfinite(value)]
            if len(values) != n or bad:
                raise ParameterError(f"the score {name!r} must be one finite number a prompt, or None where it is "
                                     f"unscored; got {len(values)} for {n} prompts"
                                     f"{f', such as {bad[0]}' if bad else ''}.")
        setting = asdict(cell)
        return cls(sha256, **{**setting, "sites": list(cell.sites)}, n=n, scores=plain, answers=answers, error=error)

    @property
    def label(self) -> str:
        """The setting in a few words."""
        return self.method if self.amount is None else f"{self.method} {self.amount_name}={self.amount:g}"

    def mean(self, score: str) -> float | None:
        """Mean of a score over the prompts that have it; None where none has."""
        values = [value for value in self.scores.get(score, []) if value is not None]
        return sum(values) / len(values) if values else None

    def scored(self, score: str) -> int:
        """How many prompts have a score."""
        return sum(value is not None for value in self.scores.get(score, []))

    def summary(self) -> dict[str, Any]:
        """The setting with the mean of every score and how many prompts have it, without what is one a prompt."""
        named = {name: value for name, value in self.as_dict().items() if name not in ("scores", "answers")}
        return {**named, "means": {name: self.mean(name) for name in self.scores},
                "scored": {name: self.scored(name) for name in self.scores}}

    def as_dict(self) -> dict[str, Any]:
        """For JSON; answers and error only where there are any."""
        named = asdict(self)
        return {name: value for name, value in named.items() if name not in ("answers", "error") or value is not None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "CellRow":
        """What `as_dict` wrote; what a later version added is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})
