"""Kill commands with SIGKILL, again and again, and give them again: what they write is what an uninterrupted run writes.

    python -m tests.faults.kills --kills 50

Half of the kills come at a random time of the run, half at a step that touches the disk: before it, after it, or halfway
through a write. After each, everything that reads the output finds it whole or refuses it; what was finished is there and
is not done again. A story is one output, killed one to four times, then finished and compared. Prints counts as JSON; exits
with 1 when anything was lost.

    python -m tests.faults.kills --fault interrupt         ctrl-C in place of SIGKILL: one line, exit code 130
    python -m tests.faults.kills --fault full              a disk that is full from a step on: one line, exit code 1
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.dying import FAULTS, Counted, begin, content, counted, ended, ended_after, preload
from tests.faults.jobs import JOBS, Job, material

CODES = {"kill": -signal.SIGKILL, "full": 1, "interrupt": 130}
SAYS = {"kill": "", "full": "Error: ", "interrupt": "Interrupted: "}


@dataclass
class Told:
    """What came of the kills of a command."""

    kills: int = 0
    at_times: int = 0
    at_steps: int = 0
    torn: int = 0
    survived: int = 0
    stories: int = 0
    found_whole: int = 0
    found_earlier: int = 0
    refused: int = 0
    kept_pieces: int = 0
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: what it wrote, how long it took and how much it did; and what an earlier one would have left."""

    content: Any
    read: Any
    seconds: float
    counted: Counted
    earlier: Path | None
    earlier_read: Any


def uninterrupted(job: Job, folder: Path, *, twice: bool = True) -> Whole:
    """Run from the beginning to the end; twice, so that two such runs are seen to write the same."""
    place = folder / f"whole {job.name}"
    place.mkdir()
    began = time.monotonic()
    run(job, place)
    first = content(place / job.output)
    if twice:
        shutil.rmtree(place)
        place.mkdir()
        began = time.monotonic()
        run(job, place)
        assert content(place / job.output) == first, f"two runs of {job.name} differ"
    seconds = time.monotonic() - began
    earlier = folder / f"earlier {job.name}"
    if job.earlier is not None:
        earlier.mkdir()
        assert ended(begin(job.earlier(earlier / job.output), earlier)) == 0, (earlier / "said").read_text()
    output = place / job.output
    return Whole(content(output), job.read(output), seconds, counted(place), earlier if job.earlier else None,
                 job.read(earlier / job.output) if job.earlier else None)


def run(job: Job, place: Path) -> Counted:
    """The command to its end; what it did.

    Raises:
        AssertionError: when it fails.
    """
    assert ended(begin(job.arguments(place / job.output), place)) == 0, f"{job.name}: {(place / 'said').read_text()[-2000:]}"
    return counted(place)


def story(job: Job, whole: Whole, folder: Path, draw: Random, most: int, fault: str, told: Told) -> None:
    """One output, killed up to `most` times, finished and compared."""
    place = folder / "story"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    output = place / job.output
    earlier = whole.earlier if whole.earlier is not None and draw.random() < 0.5 else None
    if earlier is not None:
        for one in (one for one in earlier.iterdir() if one.name not in ("said", "counted")):
            (shutil.copytree if one.is_dir() else shutil.copy2)(one, place / one.name)
    finished: list[str] = []
    for _ in range(most):
        if not kill(job, whole, place, draw, fault, told):
            finished = []
            break
        if check(job, whole, output, earlier is not None, told):
            finished = []
            if job.name == "export checkpoint":
                break
            continue
        now = job.finished(output)
        if finished[: len(now)] != now[: len(finished)] or len(now) < len(finished):
            told.lost.append(f"{job.name}: of {len(finished)} finished pieces {len(now)} are left, or others")
        finished = now
    finish(job, whole, place, finished, told)


def kill(job: Job, whole: Whole, place: Path, draw: Random, fault: str, told: Told) -> bool:
    """One attempt; whether it ended the command."""
    arguments, before = job.arguments(place / job.output), (place / "said").stat().st_size if (place / "said").exists() else 0
    at_time, torn = fault != "full" and draw.random() < 0.5, draw.random() < 0.5
    if at_time:
        sent = signal.SIGKILL if fault == "kill" else signal.SIGINT
        code = ended_after(begin(arguments, place), draw.uniform(0, whole.seconds), sent)
    else:
        code = ended(begin(arguments, place, at=draw.randint(1, whole.counted.steps), half=torn, fault=fault))
    died = code != 0
    told.at_times += died and at_time
    told.at_steps += died and not at_time
    told.torn += died and torn and not at_time
    told.kills += died
    told.survived += not died
    said = (place / "said").read_bytes()[before:].decode(errors="replace")
    if died and (code != CODES[fault] or "Traceback" in said or SAYS[fault] not in said):
        told.lost.append(f"{job.name}: exit code {code}, and it said {said[-1500:]!r}")
    return died


def check(job: Job, whole: Whole, output: Path, earlier: bool, told: Told) -> bool:
    """Every reader finds the output whole, finds what stood there before, or refuses it; whether it is whole."""
    try:
        found = job.read(output)
    except Exception as error:
        told.lost.append(f"{job.name}: a half file was read: {type(error).__name__} {error}")
        return False
    if found is None:
        told.refused += 1
    elif found == whole.read:
        told.found_whole += 1
    elif earlier and found == whole.earlier_read:
        told.found_earlier += 1
    else:
        told.lost.append(f"{job.name}: what is read is neither the old nor the new result")
    return found == whole.read


def finish(job: Job, whole: Whole, place: Path, finished: Sequence[str], told: Told) -> None:
    """The same command again, to its end."""
    told.stories += 1
    told.kept_pieces += len(finished)
    if job.name == "export checkpoint" and (place / job.output).exists():
        assert ended(begin(job.arguments(place / job.output), place)) == 1, "a finished copy was written again"
        done = whole.counted
    else:
        done = run(job, place)
    left = sorted(one.name for one in place.iterdir() if one.name.startswith(".") or one.name.endswith(".part"))
    left += [str(one.relative_to(place)) for one in (place / job.output).rglob(".*")]
    if left:
        told.lost.append(f"{job.name}: {left} stayed behind")
    if content(place / job.output) != whole.content:
        told.lost.append(f"{job.name}: the result differs from that of an uninterrupted run")
    if job.todo is not None and finished:
        wanted = job.todo(whole.counted, list(finished))
        if (wanted.rows, wanted.tasks) != (wanted.rows and done.rows, wanted.tasks and done.tasks):
            told.lost.append(f"{job.name}: {len(finished)} pieces were kept, yet {done} was done and not {wanted}")


def kill_all(command: str, kills: int, seed: int, fault: str, folder: Path) -> Told:
    """All the kills of a command."""
    told, jobs = Told(), JOBS[command]
    for number, job in enumerate(jobs):
        whole = uninterrupted(job, folder)
        until, draw = kills * (number + 1) // len(jobs), Random(f"{job.name} {seed} {fault}")
        while told.kills < until and len(told.lost) < 5:
            story(job, whole, folder, draw, min(draw.randint(1, 4), until - told.kills), fault, told)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="Of each command.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, default="kill")
    parser.add_argument("--command", choices=tuple(JOBS), help="One of them alone.")
    parser.add_argument("--jobs", type=int, default=2, help="Commands killed side by side.")
    asked = parser.parse_args()
    began = time.monotonic()
    preload()
    commands = [asked.command] if asked.command else list(JOBS)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        material(Path(place))
        told = side_by_side(commands, asked.kills, asked.seed, asked.fault, Path(place), asked.jobs)
    lost = sum(len(one["lost"]) for one in told.values())
    print(json.dumps({"kills": sum(one["kills"] for one in told.values()), "lost": lost, "fault": asked.fault, "seed": asked.seed,
                      "seconds": round(time.monotonic() - began), "commands": told}, indent=1))
    return int(lost > 0)


def side_by_side(commands: Sequence[str], kills: int, seed: int, fault: str, folder: Path, jobs: int) -> dict[str, dict[str, Any]]:
    """Every command in a process of its own, so many at a time."""
    running: dict[int, str] = {}
    waiting, told = list(commands), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            command = waiting.pop(0)
            running[_apart(command, kills, seed, fault, folder)] = command
        pid, status = os.wait()
        command = running.pop(pid)
        path = folder / command / "told.json"
        said = json.loads(path.read_text()) if path.exists() else {"kills": 0, "lost": [f"exit {status}: see above"]}
        told[command] = said
    return {command: told[command] for command in commands}


def _apart(command: str, kills: int, seed: int, fault: str, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        own = folder / command
        shutil.copytree(folder, own, ignore=lambda at, names: [name for name in names if Path(at, name).name in JOBS])
        (own / "told.json").write_text(json.dumps(asdict(kill_all(command, kills, seed, fault, own))))
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
