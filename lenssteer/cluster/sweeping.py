"""Sweeps of one or several models over a cluster, into the folders that one process would write."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from lenssteer.cells import CellRow
from lenssteer.cluster.parts import ON_WORKERS, Part
from lenssteer.cluster.pool import Pool
from lenssteer.cluster.remote import RemoteModel, remote_models
from lenssteer.cluster.task import Task
from lenssteer.cluster.worker import ModelSpec
from lenssteer.errors import ParameterError
from lenssteer.evals.judges import Judge
from lenssteer.evals.scoring import Scorer, measure_of, scorer_of
from lenssteer.progress import track
from lenssteer.prompts import Prompt
from lenssteer.recipe import Calibration
from lenssteer.sweeps import Grid
from lenssteer.sweeps.folder import RunFolder, open_run
from lenssteer.sweeps.plan import grouped
from lenssteer.sweeps.run import Prepared, Runner, missing_of, prepare

TASKS_A_WORKER = 2
"""Groups of cells for each worker, where nobody says how large a batch is: few share more, many end together."""


@dataclass(frozen=True, eq=False)
class SweepJob:
    """A sweep of one model.

    Args:
        model: What the workers load.
        calibration: What steerers are made from.
        grids: The settings.
        folder: Of the run.
    """

    model: ModelSpec
    calibration: Calibration
    grids: Sequence[Grid]
    folder: Path


def cluster_sweep(pool: Pool, jobs: Sequence[SweepJob], prompts: Sequence[Prompt], scores: Sequence[str], *,
                  judge: Judge | None = None, template: str | None = None, system: str | None = None,
                  batch_size: int | None = None, keep_answers: bool = False,
                  progress: str = "") -> list[list[CellRow]]:
    """What `run_sweep` gives for every job; the driver writes the folders, and the same call goes on with them.

    A task is some cells that share a batch. Rows are those of one process with the same `batch_size` but for seconds,
    written in the order they finish. Cells that cost three workers get a row with the reason, and the others go on.

    Args:
        pool: Of the workers.
        jobs: Sweeps, each with a folder of its own.
        prompts: Answered at every setting.
        scores: Names of `evals.scoring.SCORES`.
        judge: Asked by the driver, for refused, harmful and answers; by phrase without one.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch; None makes two groups of cells a worker.
        keep_answers: Whether rows hold the answers too.
        progress: Label of a progress bar; "" for none.

    Returns:
        The rows of every job, in the order of its grids.

    Raises:
        MismatchError, FileError, ParameterError: see `run_sweep`.
    """
    if not jobs or len({job.folder.absolute() for job in jobs}) < len(jobs):
        raise ParameterError(f"expected sweeps, each with a folder of its own; got {len(jobs)}.")
    score = _by_driver(scores, judge)
    plan: dict[str, Any] = {"measure": measure_of(scores, judge), "scores": scores, "keep_answers": keep_answers,
                            "judge": judge.name if judge else ""}
    format_: dict[str, Any] = {"template": template, "system": system, "batch_size": batch_size}
    models = {model.spec: model for model in remote_models(pool, list(dict.fromkeys(job.model for job in jobs)))}
    sweeps = [_prepared(pool, models[job.model], job, prompts, plan | format_) for job in jobs]
    with ExitStack() as stack:
        runs = [stack.enter_context(open_run(job.folder, sweep.header, list(sweep.cells)))
                for job, sweep in zip(jobs, sweeps, strict=True)]
        tasks = [task for number, job in enumerate(jobs)
                 for task in _tasks(pool, number, job, sweeps[number], runs[number], format_)]
        results = pool.run(tasks, keep_going=True)
        for _ in track(tasks, progress):
            _record(next(results), sweeps, runs, score)
        for result in results:
            _record(result, sweeps, runs, score)
        return [[run.rows[key] for key in sweep.cells] for sweep, run in zip(sweeps, runs, strict=True)]


def _by_driver(scores: Sequence[str], judge: Judge | None) -> Scorer:
    """The scores that need no model; an unknown name is refused here."""
    local = [name for name in scores if name not in ON_WORKERS]
    return scorer_of(local, judge=judge) if local or not scores else lambda prompts, answers: {}


def _prepared(pool: Pool, model: RemoteModel, job: SweepJob, prompts: Sequence[Prompt],
              options: dict[str, Any]) -> Prepared:
    sweep = prepare(model, job.calibration, job.grids, prompts, **options)
    if options["batch_size"] is not None:
        return sweep
    size = ceil(len(sweep.cells) / (TASKS_A_WORKER * pool.staff.workers))
    return replace(sweep, groups=grouped(sweep.cells, min(size, max(map(len, sweep.groups)))))


def _tasks(pool: Pool, number: int, job: SweepJob, sweep: Prepared, run: RunFolder,
           format_: dict[str, Any]) -> list[Task]:
    own = tuple(name for name in sweep.header["scores"] if name in ON_WORKERS)
    runner = pool.share(Runner(job.calibration, sweep.prompts, **format_))
    return [Part(number, group, missing_of(run, group), runner, own).task(job.model)
            for group in sweep.unfinished(run)]


def _record(result: tuple[Task, Any], sweeps: Sequence[Prepared], runs: Sequence[RunFolder], score: Scorer) -> None:
    part: Part = result[0].key
    part.record(sweeps[part.sweep], runs[part.sweep], result[1], score)
