"""Cells of a sweep: finished settings, one JSON object a line, and the header of their run; readable without torch.

The folder of a run holds `sweep.json`, which says what it is about, and `rows.jsonl`, one line a finished cell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_lines, read_object
from lenssteer.artefacts.schema.cells import Cell, Sweep
from lenssteer.artefacts.schema.record import described
from lenssteer.errors import FileError, MismatchError, ParameterError

FORMAT = 2
READABLE = (1, FORMAT)
HEADER, ROWS = "sweep.json", "rows.jsonl"
OPTIONAL = ("answers", "error", "cost", "batch")


@dataclass(frozen=True)
class CellRow:
    """What a cell gave.

    Args:
        cell: Its hash.
        method, amount_name, amount, source, sites, where, settings: The setting; see `lenssteer.sweeps.grid.Cell`.
        decoding: How answers were drawn, with the seed.
        n: Number of prompts.
        scores: One number a prompt, by name; None is unscored.
        answers: The answers, where they were kept.
        error: Why the setting could not be run; then there are no scores.
        cost: tokens, prompt_tokens, generated_tokens, passes and seconds of its answers, scoring left out. Cells that
            shared a batch bear equal shares of it; `cells` is how many they were. None in runs of format 1.
        batch: Hash of the cells that shared its batch.
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
    cost: dict[str, float | int] | None = None
    batch: str | None = None

    @classmethod
    def of(cls, setting: Mapping[str, Any], sha256: str, n: int, scores: Mapping[str, Sequence[float | int | None]],
           **more: Any) -> "CellRow":
        """The row of a setting.

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
        return cls(sha256, **{**setting, "sites": list(setting["sites"])}, n=n, scores=plain, **more)

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
        """For JSON; what a row need not have is left out where it has none."""
        return {name: value for name, value in asdict(self).items() if name not in OPTIONAL or value is not None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "CellRow":
        """What `as_dict` wrote."""
        return cls(**record)


def read_run(folder: Path | str) -> tuple[dict[str, Any], list[CellRow]]:
    """What a run is about, and its finished cells; also while it runs.

    Raises:
        FileError: when the folder holds no run, or is damaged.
        MismatchError: when it was written in another format version.
    """
    return read_header(Path(folder)), read_cells(folder)


def read_cells(folder: Path | str) -> list[CellRow]:
    """The finished cells of a run in the order they finished; a torn last line is passed over.

    Raises:
        FileError: when another line is not a row.
    """
    path = Path(folder) / ROWS
    try:
        return [_row(line, f"{path}, line {number}") for number, line in read_lines(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}") from error


def _row(line: bytes, where: str) -> CellRow:
    record = parse(line, where)
    described(Cell, line, where)
    return CellRow.from_dict(record)


def read_header(folder: Path) -> dict[str, Any]:
    """What a run is about.

    Raises:
        FileError: when the folder holds no run, or its header is damaged.
        MismatchError: when it was written in another format version.
    """
    path = folder / HEADER
    try:
        header, text = read_object(path)
    except FileNotFoundError as error:
        raise FileError(f"{folder} holds no sweep: {HEADER} is missing.") from error
    except OSError as error:
        raise FileError(f"{path} is damaged: {error}") from error
    if header.get("kind") != "sweep" or not isinstance(header.get("cells"), list):
        raise FileError(f"{path} does not describe a sweep.")
    if header.get("format") not in READABLE:
        raise MismatchError(f"{folder} has format version {str(header.get('format'))[:20]}, this lenssteer reads "
                            f"{' and '.join(map(str, READABLE))}; use the version that wrote it.")
    described(Sweep, text, path)
    return header
