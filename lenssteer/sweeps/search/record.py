"""The folder of a search: `search.json` says what it is about, `measured.jsonl` grows by a line a batch.

A line is on disk before the next batch begins; it holds scores and cost, no answers. `trials.journal` is optuna's. A
process that is killed leaves at most a torn last line in either, which is dropped when the search goes on. While a
process searches it holds `lock`; the system frees it when the process dies.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lenssteer.artefacts.lines import drop_torn_line, only_process
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_lines, read_object
from lenssteer.artefacts.schema.record import described
from lenssteer.artefacts.schema.search import Batch, Search
from lenssteer.artefacts.writing import append_line, write_text
from lenssteer.errors import FileError, MismatchError
from lenssteer.models.cost import Cost

HEADER, MEASURED, JOURNAL, RESULT = "search.json", "measured.jsonl", "trials.journal", "result.json"
UNSTEERED = None
Key = tuple[float | None, int]


class Record:
    """What a search has measured, in memory and on disk; made by `open_record`.

    Lines of an earlier process count once they are replayed.

    Attributes:
        answers: Scores by amount and number of the prompt; the amount is None for the unsteered model.
        first: How far the first token has moved, likewise.
        kl: KL divergence by amount.
        broken: Why an amount could not be run.
        costs: What was spent, by stage.
        counts: How many answers a stage gave.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[Key, dict[str, float | None]] = {}
        self.first: dict[Key, float] = {}
        self.kl: dict[float, float] = {}
        self.broken: dict[float, str] = {}
        self.costs: dict[str, Cost] = defaultdict(lambda: Cost(0.0, 0.0))
        self.counts: dict[str, int] = defaultdict(int)
        self._ahead = deque(_lines(folder / MEASURED))

    def replay(self, kind: str, stage: str, amounts: Sequence[float | None]) -> str | None:
        """Take the next line of an earlier process in place of running a batch; its kind, None where there is none.

        A search asks for the same batches in the same order, so it has the same knowledge at every decision.

        Raises:
            FileError: when the line is of another batch.
        """
        if not self._ahead:
            return None
        line = self._ahead.popleft()
        found = list(dict.fromkeys(row[0] for row in line["rows"]))
        if line["stage"] != stage or line["kind"] not in (kind, "broken") or not set(found) <= set(amounts):
            raise FileError(f"{self.folder / MEASURED} is of another version of the search, or was edited; choose "
                            "another folder.")
        self._take(line)
        return line["kind"]

    @property
    def cost(self) -> Cost:
        """Everything that was spent, over all processes; a batch under way when one was killed is not in it."""
        total = Cost(0.0, 0.0)
        for one in self.costs.values():
            for name in ("prompt", "generated", "passes", "seconds"):
                setattr(total, name, getattr(total, name) + getattr(one, name))
        return total

    def add(self, kind: str, stage: str, rows: Sequence[Sequence[Any]], cost: Cost) -> None:
        """Keep a batch so that it survives whatever happens next.

        Args:
            kind: "answers", "first", "kl" or "broken".
            stage: What the batch was run for.
            rows: Amount, number of the prompt and what was measured, one list each.
            cost: Of the batch.

        Raises:
            FileError: when it cannot be written.
        """
        spent = {name: getattr(cost, name) for name in ("prompt", "generated", "passes", "seconds")}
        line = {"kind": kind, "stage": stage, "rows": [list(row) for row in rows], "cost": spent}
        try:
            append_line(self.folder / MEASURED, json.dumps(line, allow_nan=False).encode())
        except OSError as error:
            raise FileError(f"cannot write {self.folder / MEASURED}: {error}; what was measured is kept, so run the "
                            "same search again.") from error
        self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        for amount, prompt, found in line["rows"]:
            if line["kind"] in ("answers", "first"):
                getattr(self, line["kind"])[amount, prompt] = found
            else:
                getattr(self, line["kind"])[amount] = found
        cost = self.costs[line["stage"]]
        for name, value in line["cost"].items():
            setattr(cost, name, getattr(cost, name) + value)
        self.counts[line["stage"]] += len(line["rows"]) if line["kind"] == "answers" else 0


@contextmanager
def open_record(folder: Path | str, header: Mapping[str, Any]) -> Iterator[Record]:
    """Begin a search, or go on with one, as its only process.

    Raises:
        FileError: when another process searches there, or the folder cannot be used or is damaged.
        MismatchError: when it holds a search of something else.
    """
    folder = Path(folder)
    with only_process(folder, "searching in"):
        _begin(folder, json.loads(json.dumps(header)))
        for name in (MEASURED, JOURNAL):
            drop_torn_line(folder / name)
        _refuse_broken(folder / JOURNAL)
        yield Record(folder)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file at once or not at all.

    Raises:
        FileError: when it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _begin(folder: Path, header: Mapping[str, Any]) -> None:
    path = folder / HEADER
    if not path.exists():
        if (folder / MEASURED).exists():
            raise FileError(f"{folder} has {MEASURED} but no {HEADER}; choose another folder.")
        write_json(path, header)
        return
    try:
        written, text = read_object(path)
    except OSError as error:
        raise FileError(f"{path} is damaged: {error}") from error
    described(Search, text, path)
    other = [name for name in header if written.get(name) != header[name]]
    if other:
        raise MismatchError(f"{folder} holds another search: it differs in {', '.join(other)}. Choose another folder.")


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [_line(line, f"{path}, line {number}") for number, line in read_lines(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FileError(f"{path} is damaged: {error}") from error


def _refuse_broken(journal: Path) -> None:
    """Refuse a journal that is not lines of JSON before optuna reads it as a whole."""
    try:
        for number, line in read_lines(journal):
            parse(line, f"{journal}, line {number}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"{journal} is damaged: {error}") from error


def _line(line: bytes, where: str) -> dict[str, Any]:
    record = parse(line, where)
    described(Batch, line, where)
    return record
