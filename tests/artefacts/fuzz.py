"""Damage every kind of file in every way, and read it: only a LenssteerError may come out, soon and in bounded memory.

    python -m tests.artefacts.fuzz --cases 20000
    python -m tests.artefacts.fuzz --reader "steerer 3" --case 17      one case again, with its traceback

Prints counts by reader as JSON; exits with 1 when anything else came out. A case depends on the reader, the seed and
its number alone.
"""

import argparse
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from lenssteer.errors import LenssteerError
from tests.artefacts.damage import damage
from tests.artefacts.readers import READERS, Reader

MEMORY = 2 * 2**30
"""Bytes of address space that all cases together may take beyond what the process has."""
PATIENCE = 30
"""Seconds a case may take."""


class Late(BaseException):
    """A case took too long."""


@dataclass
class Told:
    """What came of a reader's cases."""

    cases: int = 0
    read: int = 0
    refused: Counter = field(default_factory=Counter)
    escaped: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def as_dict(self) -> dict[str, object]:
        return {"cases": self.cases, "read": self.read, "refused": sum(self.refused.values()), "by": dict(self.refused),
                "escaped": len(self.escaped), "slowest_seconds": round(self.slowest, 2),
                **({"first": self.escaped[:5]} if self.escaped else {})}


def scratch() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run_case(reader: Reader, number: int, seed: int, told: Told) -> None:
    """One case; what came of it is added."""
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        folder = Path(place) / "case"
        folder.mkdir()
        reader.make(folder)
        said = damage(folder, Random(f"{reader.name} {seed} {number}"))
        began = time.perf_counter()
        try:
            with warnings.catch_warnings(), patience():
                warnings.simplefilter("ignore")
                reader.read(folder)
            told.read += 1
        except LenssteerError as error:
            str(error).encode()
            told.refused[type(error).__name__] += 1
        except (Exception, Late) as error:
            if isinstance(error, ExceptionGroup | KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            told.escaped.append(f"case {number} ({said}): {type(error).__name__} {str(error)[:160]} at {Path(last.filename).name}:{last.lineno}")
        told.cases += 1
        told.slowest = max(told.slowest, time.perf_counter() - began)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def patience() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def warm() -> None:
    """Let every reader import what it needs, on sound files."""
    for reader in READERS:
        with tempfile.TemporaryDirectory(dir=scratch()) as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.make(Path(place))
            reader.read(Path(place))


def bound_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader")
    parser.add_argument("--case", type=int)
    asked = parser.parse_args()
    readers = [reader for reader in READERS if asked.reader in (None, reader.name)]
    warm()
    bound_memory()
    if asked.case is not None:
        with tempfile.TemporaryDirectory(dir=scratch()) as place:
            folder = Path(place) / "case"
            folder.mkdir()
            readers[0].make(folder)
            print(damage(folder, Random(f"{readers[0].name} {asked.seed} {asked.case}")))
            print(readers[0].read(folder))
        return 0
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    told = {reader.name: Told() for reader in readers}
    shares = sum(reader.share for reader in readers)
    for reader in readers:
        for number in range(-(-asked.cases * reader.share // shares)):
            run_case(reader, number, asked.seed, told[reader.name])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    escaped = sum(len(one.escaped) for one in told.values())
    print(json.dumps({"cases": sum(one.cases for one in told.values()), "escaped": escaped, "seed": asked.seed,
                      "cpu_seconds": round(time.process_time() - began, 1), "memory_growth_mib": round(grown, 1),
                      "readers": {name: one.as_dict() for name, one in told.items()}}, indent=1))
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
