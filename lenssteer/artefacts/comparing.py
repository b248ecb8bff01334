"""What two runs left, compared: every number of their JSON, of their rows and of their tensors."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_lines, read_object
from lenssteer.errors import FileError

TOLERANCE = 1e-5
"""Of a number's size, at least of 1. A float32 has 24 bits, 6e-8; other kernels, threads and batches add the same
numbers in another order, which moves a sum of thousands of terms by up to a hundred times that."""
RUN = "run.json"
SPENT = frozenset({"seconds", "cost", "costs", "passes", "tokens", "share", "grid_tokens"})
"""What a result cost: time, and batches that follow the memory that was free."""
TOLD = frozenset({"lenssteer", "version", "command", "output", "report", "next", "batch"})
"""Where and by what it was made, which `run.json` says; not what came out."""
DERIVED = frozenset({"cell", "cells", "calibration", "tensors", "sha256"})
"""Hashes of what is compared itself, number by number."""
HASH = re.compile(r"[0-9a-f]{16}([0-9a-f]{48})?")
NAMED_BY_HASH = re.compile(r"-[0-9a-f]{16}(?=\.safetensors$)")
OF_A_ROW = ("n", "scores", "answers", "error", "cost", "cell", "batch")
READ = (".json", ".jsonl", ".safetensors")


@dataclass
class Comparison:
    """Numbers and texts, counted by how they compare.

    Args:
        tolerance: Of a number's size, at least of 1.
        equal: How many are the same.
        within: How many differ by no more than the tolerance.
        largest: The largest difference among those, measured as the tolerance is.
        different: The others: where, what was recorded and what came now.
    """

    tolerance: float = TOLERANCE
    equal: int = 0
    within: int = 0
    largest: float = 0.0
    different: list[tuple[str, Any, Any]] = field(default_factory=list)

    def add(self, where: str, recorded: Any, now: Any) -> None:
        """Count one value."""
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (recorded, now))
        if recorded == now:
            self.equal += 1
        elif numbers and (far := abs(recorded - now) / max(1.0, abs(recorded), abs(now))) <= self.tolerance:
            self.within += 1
            self.largest = max(self.largest, far)
        else:
            self.different.append((where, recorded, now))

    def values(self, where: str, recorded: Any, now: Any) -> None:
        """Count whatever JSON holds, value by value."""
        if isinstance(recorded, dict) and isinstance(now, dict):
            for name in dict.fromkeys([*recorded, *now]):
                if name in SPENT | TOLD or (name in DERIVED and _hashes(recorded.get(name), now.get(name))):
                    continue
                self.values(f"{where}.{name}" if where else name, recorded.get(name), now.get(name))
        elif isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
            for i, (one, other) in enumerate(zip(recorded, now, strict=True)):
                self.values(f"{where}[{i}]", one, other)
        else:
            self.add(where, recorded, now)


def _hashes(*values: Any) -> bool:
    """Whether values are hashes, lists of hashes, or name a file by one."""
    flat = [one for value in values for one in (value.values() if isinstance(value, dict) else value
                                                if isinstance(value, list) else [value])]
    return all(isinstance(one, str) and (HASH.fullmatch(one) or NAMED_BY_HASH.search(one)) for one in flat)


def compare(recorded: Path, now: Path, tolerance: float = TOLERANCE) -> Comparison:
    """Compare two files, or two folders with everything in them.

    Rows of a sweep are matched by their setting, lines of other files by their number, tensors by their name. Cost,
    time and pictures are left out.

    Args:
        recorded: What a run left.
        now: What it left when it was repeated.
        tolerance: Of a number's size, at least of 1; of a tensor's largest entry.

    Raises:
        FileError: when a file is damaged.
    """
    found = Comparison(tolerance)
    before, after = _files(recorded), _files(now)
    for name in sorted(before.keys() | after.keys()):
        if name in before and name in after:
            try:
                _compare(found, name, before[name], after[name])
            except OSError as error:
                raise FileError(f"cannot read {before[name]}: {error}") from error
        else:
            one, other = ("there" if name in files else "absent" for files in (before, after))
            found.different.append((name, one, other))
    return found


def _files(place: Path) -> dict[str, Path]:
    """The files that hold numbers, by their name without a hash; a file by its ending alone."""
    if not place.is_dir():
        return {place.suffix: place}
    return {NAMED_BY_HASH.sub("", str(path.relative_to(place))): path for path in sorted(place.rglob("*"))
            if path.is_file() and path.suffix in READ and path.name != RUN and not path.name.endswith(f".{RUN}")
            and not path.name.startswith(".")}


def _compare(found: Comparison, name: str, recorded: Path, now: Path) -> None:
    if recorded.suffix == ".safetensors":
        _tensors(found, name, recorded, now)
        return
    rows = _rows if recorded.suffix == ".jsonl" else lambda path: {name: read_object(path, constants=True)[0]}
    before, after = rows(recorded), rows(now)
    for key in dict.fromkeys([*before, *after]):
        found.values(f"{name} {key}" if key != name else name, before.get(key), after.get(key))


def _rows(path: Path) -> dict[str, Any]:
    """Lines by what they are about: a cell's setting, or a number."""
    return dict(_named(number, parse(line, f"{path}, line {number}")) for number, line in read_lines(path))


def _named(number: int, row: Any) -> tuple[str, Any]:
    if not isinstance(row, dict) or "cell" not in row:
        return str(number), row
    setting = {name: value for name, value in row.items() if name not in OF_A_ROW}
    return json.dumps(setting, sort_keys=True), row


def _tensors(found: Comparison, name: str, recorded: Path, now: Path) -> None:
    """Entry by entry; a tensor that differs is told once, by its worst entry."""
    from lenssteer.artefacts.tensors import read_tensors

    before, after = read_tensors(recorded, dtypes=()), read_tensors(now, dtypes=())
    for key in sorted(before.keys() | after.keys()):
        one, other, where = before.get(key), after.get(key), f"{name} {key}"
        if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
            found.different.append((where, _kind(one), _kind(other)))
            continue
        one, other = one.double().flatten(), other.double().flatten()
        far = (one - other).abs() / max(one.abs().max().item(), math.ulp(0.0)) if len(one) else one
        equal, within = int((one == other).sum()), int((far <= found.tolerance).sum())
        found.equal += equal
        found.within += within - equal
        if within < len(far):
            worst = int(far.argmax())
            found.different.append((f"{where}: {len(far) - within} of {len(far)} entries, the worst at {worst}",
                                    one[worst].item(), other[worst].item()))
        elif within > equal:
            found.largest = max(found.largest, far.max().item())


def _kind(tensor: Any) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
