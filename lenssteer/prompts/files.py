"""Prompts from files: text (one a line), CSV, JSONL, JSON and Parquet."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_bytes
from lenssteer.errors import PromptError
from lenssteer.nearest import did_you_mean

NOT_JSON: dict[str, Any] = {"fault": "is not JSON", "error": PromptError}
PARQUET_BATCH = 256
"""Records that are unpacked at a time."""
USUAL_COLUMNS = ("prompt", "instruction", "text", "question", "goal", "sentence", "behavior")
Record = dict[str, Any]


def _decode(path: Path) -> str:
    try:
        return read_bytes(path, limits.PROMPTS, error=PromptError).decode("utf-8-sig")
    except OSError as error:
        raise PromptError(f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8 and try again.") from error


def _text(path: Path) -> list[Record]:
    return [{"prompt": line} for line in _decode(path).splitlines() if line.strip()]


def _csv(path: Path) -> list[Record]:
    csv.field_size_limit(limits.DESCRIPTION)
    try:
        return list(csv.DictReader(io.StringIO(_decode(path), newline="")))
    except csv.Error as error:
        raise PromptError(f"{path} is not CSV: {error}; save it as CSV in UTF-8 and try again.") from error


def _json_lines(path: Path) -> list[Record]:
    records = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if line.strip():
            records.append(_record(parse(line, f"{path}, line {number}", **NOT_JSON), path))
    return records


def _json(path: Path) -> list[Record]:
    content = parse(_decode(path), path, **NOT_JSON)
    if not isinstance(content, list):
        raise PromptError(f"{path} holds a JSON {type(content).__name__}; expected a list of prompts or objects.")
    return [_record(item, path) for item in content]


def _record(item: Any, path: Path) -> Record:
    if isinstance(item, str):
        return {"prompt": item}
    if isinstance(item, dict):
        return item
    raise PromptError(f"{path} holds a JSON {type(item).__name__}; expected strings or objects.")


def _parquet(path: Path) -> list[Record]:
    """Record by record in batches, since a small file may unpack to any size."""
    import pyarrow
    import pyarrow.parquet

    found: list[Record] = []
    size = 0
    try:
        with pyarrow.parquet.ParquetFile(io.BytesIO(read_bytes(path, limits.PROMPTS, error=PromptError))) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH):
                size += batch.nbytes
                if size > limits.PROMPTS or len(found) > limits.RECORDS:
                    raise PromptError(f"{path} unpacks to more than {limits.PROMPTS} bytes or {limits.RECORDS} "
                                      "records; expected fewer prompts. Take some of them into a file of their own.")
                found += batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise PromptError(f"{path} is not a Parquet file: {str(error)[:300]}") from error
    return found


READERS: dict[str, Callable[[Path], list[Record]]] = {
    ".txt": _text, ".csv": _csv, ".jsonl": _json_lines, ".json": _json, ".parquet": _parquet,
}


def read_records(path: Path | str) -> list[Record]:
    """Every record of a prompt file, as dictionaries.

    Raises:
        PromptError: when the file is absent, empty, of an unknown kind or encoding, or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise PromptError(f"no such prompt file: {path}.{did_you_mean(path.name, _beside(path))}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise PromptError(f"cannot read {path.name}: expected one of {', '.join(READERS)}.")
    records = reader(path)
    if not records:
        raise PromptError(f"{path} holds no prompts.")
    return records


def _beside(path: Path) -> list[str]:
    try:
        return [one.name for one in path.parent.iterdir()]
    except (OSError, ValueError):
        return []


def read_prompts(path: Path | str, *, column: str | None = None) -> list[str]:
    """The prompts of a file.

    Args:
        path: A .txt (one prompt a line), .csv, .jsonl, .json or .parquet file, UTF-8.
        column: Which column or key holds them; by default the only one, or the first of the usual names.

    Raises:
        PromptError: when the file or the column cannot be read; the columns there are named.
    """
    records = read_records(path)
    column = column or _usual_column(records[0], path)
    missing = [i for i, record in enumerate(records) if not isinstance(record.get(column), str)]
    if missing:
        raise PromptError(f"{path}: record {missing[0] + 1} has no text in column {column!r} ({len(missing)} such); "
                          f"its columns are {', '.join(map(str, records[missing[0]]))}."
                          + did_you_mean(column, map(str, records[missing[0]])))
    return [record[column] for record in records]


def _usual_column(record: Record, path: Path | str) -> str:
    names = [str(name) for name in record]
    usual = [name for name in USUAL_COLUMNS if name in names]
    if len(names) == 1 or usual:
        return usual[0] if usual else names[0]
    raise PromptError(f"{path} has columns {', '.join(names)}; say which holds the prompts with --column (column=).")
