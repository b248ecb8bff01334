"""What is killed: commands as a user gives them, with the readers of what they leave."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenssteer.errors import LenssteerError
from tests.faults.dying import Counted, begin, ended, timeless

PROMPTS = 24


@dataclass(frozen=True)
class Job:
    """A command.

    Args:
        name: Of it.
        arguments: With its output.
        output: Name of what it writes.
        read: Everything that reads its output; what comes of it must be None, or whole.
        finished: From its folder to what it has finished, in an order that only grows.
        todo: What is left to be done of a whole run's work, by what was finished; None where nothing is kept.
        earlier: Arguments by which the output may have been written before, with other content.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    output: str
    read: Callable[[Path], Any]
    finished: Callable[[Path], list[str]]
    todo: Callable[[Counted, list[str]], Counted] | None = None
    earlier: Callable[[Path], list[str]] | None = None


def material(folder: Path) -> None:
    """The files that the commands read: prompts, tasks, a calibration."""
    from lenssteer.studies.demo import demo_contrast
    from tests.evals.benchmarks.files import write_data

    write_data(folder / "data")
    contrast = demo_contrast()
    for name, prompts in (("positive", contrast.positive), ("negative", contrast.negative)):
        (folder / f"{name}.txt").write_text("\n".join(prompts[:PROMPTS]) + "\n")
    (folder / "asked.txt").write_text("\n".join(contrast.positive[-6:]) + "\n")
    assert ended(begin(calibrate(folder / "calibration"), folder, watch=False)) == 0, (folder / "said").read_text()


def calibrate(output: Path, *more: str) -> list[str]:
    place = next(one for one in output.parents if (one / "positive.txt").exists())
    return ["calibrate", "demo", "--positive", f"{place}/positive.txt", "--negative", f"{place}/negative.txt", "-o", str(output), "--backend", "hf",
            "--sites", "resid_post", *more]


def _given(output: Path) -> list[str]:
    return ["--steer", f"{output.parent.parent}/calibration"]


def sweep(output: Path) -> list[str]:
    return ["sweep", "demo", *_given(output), "--prompts", f"{output.parent.parent}/asked.txt", "--grid", "degrees=0:360:45", "--max-new-tokens", "3",
            "--batch-size", "12", "-o", str(output), "--json"]


def search(output: Path) -> list[str]:
    return ["search", "demo", *_given(output), "--prompts", f"{output.parent.parent}/asked.txt", "--grid", "degrees=0:360:60", "--max-new-tokens", "3",
            "-o", str(output), "--json"]


def evaluate(output: Path, limit: str = "4") -> list[str]:
    return ["eval", "demo", *_given(output), "--set", "degrees=200", "--tasks", "mmlu_sample,truthfulqa_mc1,truthfulqa_mc2", "--limit", limit, "--data",
            f"{output.parent.parent}/data", "--backend", "hf", "-o", str(output), "--json"]


def export(output: Path, to: str, *more: str) -> list[str]:
    return ["export", f"{output.parent.parent}/calibration", "--to", to, "--model", "demo", "-o", str(output), "--json", *more]


def checkpoint(output: Path) -> list[str]:
    return export(output, "checkpoint", "--method", "ablation", "--sites", "every_write", "--no-proof", "--untie")


def gguf(output: Path, coefficient: str = "1") -> list[str]:
    return export(output, "gguf", "--method", "addition", "--sites", "resid_post.2,resid_post.3", "--coefficient", coefficient)


def torch(output: Path, sites: str = "all") -> list[str]:
    return export(output, "torch", "--method", "ablation", "--sites", sites)


def refused(read: Callable[[], Any]) -> Any:
    """What a reader gives; None where it says that there is nothing whole."""
    try:
        return read()
    except LenssteerError:
        return None


def listed(folder: Path) -> None:
    """`lenssteer runs` names nothing damaged."""
    from lenssteer.cli.runs import DAMAGED, find_runs

    damaged = [run for run in find_runs(folder) if run.state == DAMAGED]
    assert not damaged, damaged


def read_calibration(output: Path) -> Any:
    from lenssteer.recipe import Calibration

    listed(output.parent)
    found = refused(lambda: Calibration.load(output))
    return None if found is None else (found.table(), found.moments.positive.mean.tolist())


def read_sweep(output: Path) -> Any:
    from lenssteer.cells import read_run

    listed(output.parent)
    found = refused(lambda: read_run(output))
    return timeless([row.summary() for row in found[1]]) if found and len(found[1]) == len(found[0]["cells"]) else None


def read_search(output: Path) -> Any:
    from lenssteer.sweeps.search.result import read_result

    listed(output.parent)
    found = refused(lambda: read_result(output))
    return None if found is None else timeless(found.as_dict())


def read_eval(output: Path) -> Any:
    from lenssteer.artefacts.reading import read_object

    return read_object(output)[0]["rows"] if output.exists() else None


def read_checkpoint(output: Path) -> Any:
    """A folder of that name is whole: every file, and transformers loads it."""
    from lenssteer.models.checkpoint import Checkpoint

    return Checkpoint.open(output).shapes if output.exists() else None


def read_gguf(output: Path) -> Any:
    from lenssteer.exports.arrays import read_arrays

    return {name: one.tolist() for name, one in read_arrays(output).named.items()} if output.exists() else None


def read_torch(output: Path) -> Any:
    """steer.py runs with the tensors beside it, and has all of its sites."""
    if not (output / "steer.py").exists():
        return None
    space: dict[str, Any] = {"__file__": str(output / "steer.py"), "__name__": "steer"}
    exec(compile((output / "steer.py").read_text(), "steer.py", "exec"), space)
    assert {key.split("/")[0] for key in space["ARRAYS"]} == set(space["SITES"])
    return {name: one.tolist() for name, one in space["ARRAYS"].items()}


def lines(name: str) -> Callable[[Path], list[str]]:
    """The whole lines of a file of a folder."""
    def read(output: Path) -> list[str]:
        path = output / name
        return path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []

    return read


def pieces(output: Path) -> list[str]:
    """The lines of a file's pieces."""
    from lenssteer.artefacts.lines import pieces_beside

    return lines("finished.jsonl")(pieces_beside(output))


def kept_rows(output: Path) -> list[str]:
    """A line for each prompt that is kept."""
    from lenssteer.artefacts.lines import pieces_inside
    from lenssteer.artefacts.tensors import FLOATS, read_tensors

    place = pieces_inside(output)
    named = [json.loads(line)["tensors"] for line in lines("finished.jsonl")(place)]
    found = [read_tensors(place / one["file"], sha256=one["sha256"], dtypes=(*FLOATS, "I64")) for one in named]
    return list(dict.fromkeys(str(row) for one in found for row in one["prompt"].tolist()))


def nothing(_: Path) -> list[str]:
    return []


JOBS: Mapping[str, tuple[Job, ...]] = {
    "calibrate": (Job("calibrate", calibrate, "calibration", read_calibration, kept_rows,
                      lambda whole, kept: Counted(rows=whole.rows - len(kept)), lambda output: calibrate(output, "--rule", "means", "--limit", "9")),
                  Job("calibrate without samples", lambda output: calibrate(output, "--no-samples"), "calibration", read_calibration, nothing)),
    "sweep": (Job("sweep", sweep, "sweep", read_sweep, lines("rows.jsonl")),),
    "search": (Job("search", search, "search", read_search, lines("measured.jsonl")),),
    "eval": (Job("eval", evaluate, "eval.json", read_eval, pieces, lambda whole, kept: Counted(tasks=whole.tasks - len(kept)),
                 lambda output: evaluate(output, "3")),),
    "export": (Job("export checkpoint", checkpoint, "model", read_checkpoint, nothing),
               Job("export gguf", gguf, "vector.gguf", read_gguf, nothing, None, lambda output: gguf(output, "2")),
               Job("export torch", torch, "hooks", read_torch, nothing, None, lambda output: torch(output, "resid_post.1"))),
}
"""By command; the kills of one are shared by its jobs."""
