"""The folder of a run: `sweep.json` says what it is about, `rows.jsonl` grows by one line a finished cell.

A line is on disk before the next cell begins. A process that is killed leaves at most a torn last line, which is
dropped when the run goes on. While a process writes, it holds `lock`; the system frees it when the process dies.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lenssteer.artefacts.lines import drop_torn_line, only_process
from lenssteer.artefacts.writing import append_line, write_text
from lenssteer.cells import FORMAT, HEADER, ROWS, CellRow, read_cells, read_header
from lenssteer.errors import FileError, MismatchError

FIXED = {
    "model": "another model, weight frame, backend or dtype", "calibration": "another calibration",
    "prompts": "another prompt set", "template": "another prompt format", "system": "another system prompt",
    "measure": "another measure", "keep_answers": "another choice of keeping answers",
}
"""What a run may not change, and what it is called."""


class RunFolder:
    """A run that this process may append to; made by `open_run`."""

    def __init__(self, folder: Path, rows: dict[str, CellRow]) -> None:
        self.folder = folder
        self.rows = rows

    def append(self, row: CellRow) -> None:
        """Write a row so that it survives whatever happens next.

        Raises:
            FileError: when it cannot be written.
        """
        line = json.dumps(row.as_dict(), ensure_ascii=False, allow_nan=False)
        try:
            append_line(self.folder / ROWS, line.encode())
        except OSError as error:
            raise FileError(f"cannot write {self.folder / ROWS}: {error}; finished cells are kept, so run the same "
                            "sweep again.") from error
        self.rows[row.cell] = row


@contextmanager
def open_run(folder: Path | str, header: Mapping[str, Any], cells: Sequence[str]) -> Iterator[RunFolder]:
    """Begin a run, or go on with one, as its only writer.

    Args:
        folder: Made if absent.
        header: What the run is about; see `FIXED`.
        cells: Hashes of the cells to come, which `read_run` counts.

    Raises:
        FileError: when another process is writing there, or the folder cannot be used.
        MismatchError: when the folder holds a run of something else.
    """
    folder = Path(folder)
    with only_process(folder, "sweeping into"):
        _begin(folder, header, cells)
        drop_torn_line(folder / ROWS)
        yield RunFolder(folder, {row.cell: row for row in read_cells(folder)})


def _begin(folder: Path, header: Mapping[str, Any], cells: Sequence[str]) -> None:
    """Write the header of a new run; of an old one, check it and note the cells to come."""
    known: list[str] = []
    if (folder / HEADER).exists():
        written = read_header(folder)
        for name, called in FIXED.items():
            if written.get(name) != json.loads(json.dumps(header[name])):
                raise MismatchError(f"{folder} holds a sweep of {called}: its {name} is {_short(written.get(name))}, "
                                    f"this one's {_short(header[name])}. Choose another folder.")
        known = written["cells"]
        if set(cells) <= set(known):
            return
    elif (folder / ROWS).exists():
        raise FileError(f"{folder} has {ROWS} but no {HEADER}, so nobody knows what its rows are about; choose "
                        "another folder.")
    planned = list(dict.fromkeys([*known, *cells]))
    text = json.dumps({"kind": "sweep", "format": FORMAT, **header, "cells": planned}, indent=2, ensure_ascii=False)
    write_text(folder / HEADER, text + "\n")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "..."
