"""Change lenssteer in one place at a time and see whether a test fails.

    python -m tests.mutation.run                          every mutant of edits, maths and steering
    python -m tests.mutation.run --sample 100 --seed 1    a hundred of each package
    python -m tests.mutation.run --only maths/robust.py --again    once more those that survived
    python -m tests.mutation.run --sample 50 --control    the code as it is in place of mutants: all have to survive

Prints counts by package and module as JSON. What was found is kept in a file, line by line, and not run again: stop at any
time, and go on with the same command. Needs mutmut, whose operators these are, and coverage.

The tests run once, so that it is known which lines each of them reaches and how long it takes. Then the process forks for
each mutant: the child puts the mutant's code into the function, and runs the tests that reach the line, the quickest first,
until one fails.
"""

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.runner import KILLED, LATE, OPTIONS, PACKAGES, ROOT, SURVIVED, Runner

TESTS = tuple(f"tests/{package}" for package in PACKAGES)


def drawn(mutants: list[Mutant], count: int | None, seed: int) -> list[Mutant]:
    """So many of each package, or all; in an order by chance, so that an unfinished run is a sample too."""
    chance = random.Random(seed)
    mutants = chance.sample(mutants, len(mutants))
    each = Counter[str]()
    return [one for one in mutants if count is None or (each.update([one.path.parent.name]) or each[one.path.parent.name] <= count)]


def known(results: Path) -> dict[str, dict]:
    """What was found so far, the newest of each mutant."""
    if not results.exists():
        return {}
    return {one["key"]: one for one in map(json.loads, results.read_text(encoding="utf-8").splitlines())}


def counts(mutants: list[Mutant], found: dict[str, dict]) -> dict[str, dict]:
    by: dict[str, Counter] = defaultdict(Counter)
    for mutant in mutants:
        module = mutant.path.relative_to(ROOT / "lenssteer").as_posix()
        for name in (module.split("/")[0], module):
            by[name]["mutants"] += 1
            by[name][found[mutant.key]["result"] if mutant.key in found else "to do"] += 1
    return {name: {**one, "killed share": round((one[KILLED] + one[LATE]) / max(1, one["mutants"] - one["to do"]), 3)}
            for name, one in sorted(by.items())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=PACKAGES, help="packages or modules")
    parser.add_argument("--sample", type=int, help="as many of each package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run those that survived once more")
    parser.add_argument("--control", action="store_true", help="change nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds of tests that a mutant has to survive")
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    given.results = given.results or ROOT / f"build/{'unchanged' if given.control else 'mutants'}.jsonl"
    paths = sorted({path for name in given.only for path in [ROOT / "lenssteer" / name, *(ROOT / "lenssteer" / name).glob("*.py")]
                    if path.suffix == ".py" and path.name != "__init__.py"})
    mutants = drawn([mutant for path in paths for mutant in mutants_of(path, ROOT)], given.sample, given.seed)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    found = known(given.results)
    left = [one for one in mutants if one.key not in found or (given.again and found[one.key]["result"] == SURVIVED)]
    if left:
        code = pytest.main([*TESTS, *OPTIONS], plugins=[Runner(left, given.results, given)])
        if code not in (0, 1, 5):
            return int(code)
    print(json.dumps(counts(mutants, known(given.results)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
