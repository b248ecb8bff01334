"""Rows: measured facts of a run, one JSON object a line, readable without torch."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_lines
from lenssteer.artefacts.schema.record import described
from lenssteer.artefacts.schema.rows import Row as RowSchema
from lenssteer.artefacts.writing import append_line
from lenssteer.errors import FileError

Z_95 = 1.959963984540054


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share.

        (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    >>> [round(x, 3) for x in wilson_interval(0.5, 100)]
    [0.404, 0.596]

    Source: Wilson 1927, JASA 22(158).
    """
    if n <= 0:
        return 0.0, 1.0
    spread = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    centre, scale = share + Z_95**2 / (2 * n), 1 + Z_95**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class Rates:
    """Shares of graded answers, between 0 and 1.

    Args:
        refusal: Refused.
        on_form: Complied, about what was asked.
        exact: Complied with exactly the right answer.
        n: Number of answers.
    """

    refusal: float
    on_form: float
    exact: float
    n: int


@dataclass(frozen=True)
class Row:
    """One method at one setting on one split.

    Args:
        method: Name in the catalogue, "unsteered" or "random".
        sites: "discriminative", "all", "layer N" or "none".
        split: "selection" or "test".
        harmful: Rates on harmful requests.
        harmless: Rates on harmless requests.
        degrees: Angle, for rotations.
        coefficient: Multiple of the class difference, for addition.
    """

    method: str
    sites: str
    split: str
    harmful: Rates
    harmless: Rates
    degrees: float | None = None
    coefficient: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; parameters that do not apply are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Row":
        """What `as_dict` wrote."""
        return cls(**{**record, "harmful": Rates(**record["harmful"]), "harmless": Rates(**record["harmless"])})


def write_rows(path: Path | str, rows: Iterable[Row]) -> None:
    """Append rows to a JSONL file; each is on disk before the next.

    Raises:
        FileError: when the file cannot be written, or a number is not finite.
    """
    try:
        for row in rows:
            append_line(Path(path), json.dumps(row.as_dict(), allow_nan=False).encode())
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write {path}: {error}") from error


def read_rows(path: Path | str) -> list[Row]:
    """Rows of a JSONL file; a torn last line is passed over.

    Raises:
        FileError: when the file is absent, or a line is not a row.
    """
    try:
        return [_row(line, f"{path}, line {number}") for number, line in read_lines(Path(path)) if line.strip()]
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}") from error


def _row(line: bytes, where: str) -> Row:
    record = parse(line, where)
    described(RowSchema, line, where)
    return Row.from_dict(record)
