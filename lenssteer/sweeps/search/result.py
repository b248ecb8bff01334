"""What a search found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenssteer.artefacts.reading import read_object
from lenssteer.artefacts.schema.record import described
from lenssteer.artefacts.schema.search import Result
from lenssteer.errors import FileError
from lenssteer.rows import wilson_interval
from lenssteer.sweeps.search.record import RESULT


@dataclass(frozen=True)
class Finalist:
    """A setting that was measured on all prompts.

    Args:
        amount: Its amount.
        means: Mean of every score over the prompts that have it; None where none has. With "kl" where it was asked for.
        scored: How many prompts have each score.
        low, high: 95 % Wilson interval of the objective; None where it is no share.
        excess: By how much constraints are broken, in sum; None where a constrained score is absent.
    """

    amount: float
    means: dict[str, float | None]
    scored: dict[str, int]
    low: float | None
    high: float | None
    excess: float | None

    @property
    def kept(self) -> bool:
        """Whether every constraint holds."""
        return self.excess == 0


@dataclass(frozen=True)
class SearchResult:
    """The best setting, and how it was found.

    Args:
        name: The amount that was searched.
        amount: The best setting; None where no setting has a value of the objective.
        feasible: Whether it keeps the constraints; where none does, the one that breaks them least is named.
        objective: Name and way of the objective.
        constraints: As they are written.
        finalists: Settings measured on all prompts, best first.
        unsteered: Means of the unsteered model.
        trials: Every setting with what each stage said, and why it was dropped.
        n: Number of prompts.
        seen: Hashes of the prompts it was chosen on.
        cost: Of the search: tokens, passes, seconds; and tokens by stage.
        grid_tokens: What every setting on every prompt, and the unsteered model, would have cost; an estimate.
        seed: Of the order of the prompts and the sampler.
    """

    name: str
    amount: float | None
    feasible: bool
    objective: str
    constraints: list[str]
    finalists: list[Finalist]
    unsteered: dict[str, float | None]
    trials: list[dict[str, Any]]
    n: int
    seen: list[str]
    cost: dict[str, Any]
    grid_tokens: float
    seed: int

    @property
    def share(self) -> float:
        """Tokens of the search over those of the whole grid, both with the unsteered model."""
        return self.cost["tokens"] / self.grid_tokens

    @property
    def best(self) -> Finalist | None:
        """The finalist that was chosen."""
        return self.finalists[0] if self.finalists and self.amount is not None else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "share": self.share}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "SearchResult":
        """What `as_dict` wrote."""
        known = {name: value for name, value in record.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "finalists": [Finalist(**one) for one in record["finalists"]]})


def interval_of(values: list[float]) -> tuple[float | None, float | None]:
    """Wilson interval of a share; none of other scores.

    >>> [round(end, 2) for end in interval_of([1.0, 1.0, 0.0, 1.0])], interval_of([0.5, 1.0])
    ([0.3, 0.95], (None, None))
    """
    if not values or any(value not in (0.0, 1.0) for value in values):
        return None, None
    return wilson_interval(sum(values) / len(values), len(values))


def read_result(folder: Path | str) -> SearchResult:
    """The result of a finished search.

    Raises:
        FileError: when the folder holds none, or it is damaged.
    """
    path = Path(folder) / RESULT
    try:
        found, text = read_object(path)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}; a search that was killed goes on with its own "
                        "command.") from error
    described(Result, text, path)
    return SearchResult.from_dict(found)
