"""A sweep that can be killed: runs the cells that a folder does not hold yet, many to a batch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from lenssteer.cells import CellRow
from lenssteer.engines.engine import Engine
from lenssteer.errors import ParameterError, SteeringError
from lenssteer.evals.scoring import Scorer, Scores
from lenssteer.models import LensModel
from lenssteer.models.sizing import usual_rows
from lenssteer.progress import track
from lenssteer.prompts import Prompt, hashes
from lenssteer.recipe import Calibration
from lenssteer.steering import Steerer
from lenssteer.sweeps.folder import RunFolder, open_run
from lenssteer.sweeps.grid import UNSTEERED, Grid, sha256_of
from lenssteer.sweeps.material import material
from lenssteer.sweeps.plan import Planned, grouped, plan
from lenssteer.sweeps.stacked import one_a_row, stacked_answers

ENGINE_ROWS = 512
"""Requests given to an engine at once where nobody names a number; it batches them itself."""


def run_sweep(
    model: LensModel | Engine,
    calibration: Calibration,
    grid: Grid | Sequence[Grid],
    prompts: Sequence[Prompt],
    folder: Path | str,
    score: Scorer,
    *,
    measure: str,
    scores: Sequence[str] = (),
    judge: str = "",
    template: str | None = None,
    system: str | None = None,
    batch_size: int | None = None,
    keep_answers: bool = False,
    progress: str = "",
) -> list[CellRow]:
    """Run every cell of the grids that the folder does not hold yet, and append one row a cell.

    Cells of all methods, sources and sites share batches, as many as fit into `batch_size` rows with all prompts, and
    one pass over the prompts as far as their edits allow. Sampled answers are drawn cell by cell, so that prompt i has
    the same draws at every setting. A folder may hold several grids of one model, calibration and prompt set. A
    setting that breaks the model gets a row with its error; the others go on.

    Args:
        model: Unsteered, in this process or an engine's.
        calibration: What steerers are made from.
        grid: The settings; several grids where methods or sites differ.
        prompts: Answered at every setting.
        folder: Of the run; see `lenssteer.cells`.
        score: From prompts and answers to one number a prompt, or None where it is unscored, by name.
        measure: What `score` is, in words; a folder holds one measure.
        scores: Names of the scores, for the record.
        judge: Who judged, for the record.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        keep_answers: Whether rows hold the answers too.
        progress: Label of a progress bar; "" for none.

    Returns:
        The rows of the grids, in their order.

    Raises:
        MismatchError: when the folder holds a run of another model, calibration or prompt set, or the calibration was
            made on another model.
        FileError: when another process is writing there.
        ParameterError: when there are no prompts, or a parameter of the method is wrong.
    """
    sweep = prepare(model, calibration, grid, prompts, measure=measure, scores=scores, judge=judge, template=template,
                    system=system, batch_size=batch_size, keep_answers=keep_answers)
    runner = Runner(calibration, prompts, template, system, batch_size)
    with open_run(folder, sweep.header, list(sweep.cells)) as run:
        for group in track(sweep.unfinished(run), progress):
            missing = missing_of(run, group)
            with model.metered() as cost:
                found = runner(model, list(missing.values()))
            sweep.record(run, group, missing, found, cost.as_dict(), score)
        return [run.rows[key] for key in sweep.cells]


Group = Mapping[str, Planned]
"""Cells by hash that share a batch."""
Found = tuple[list[str], str | None]
"""Answers and error of a cell."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run will do, wherever its groups are answered.

    Args:
        header: What the run is about.
        cells: All of them, by hash.
        groups: The cells that share a batch.
        prompts: Answered at every setting.
        keep_answers: Whether rows hold the answers too.
    """

    header: dict[str, Any]
    cells: dict[str, Planned]
    groups: Sequence[Group]
    prompts: Sequence[Prompt]
    keep_answers: bool

    def unfinished(self, run: RunFolder) -> list[Group]:
        """The groups of which a cell is missing."""
        return [group for group in self.groups if not group.keys() <= run.rows.keys()]

    def record(self, run: RunFolder, group: Group, missing: Group, found: Iterable[Found],
               cost: Mapping[str, float | int], score: Scorer) -> None:
        """Score and append the cells of a group that were missing; one with a score that is not finite has failed."""
        batch = sha256_of(list(group))[:16]
        share = _share(run, group, batch, len(missing), cost)
        for (key, planned), (answers, error) in zip(missing.items(), found, strict=True):
            measured = {} if error else score(self.prompts, answers)
            error = error or infinite(measured)
            measured = {} if error else measured
            kept = answers if self.keep_answers and not error else None
            run.append(CellRow.of(asdict(planned.cell), key, len(self.prompts), measured, answers=kept, error=error,
                                  cost=share, batch=batch))


def prepare(model: LensModel | Engine, calibration: Calibration, grid: Grid | Sequence[Grid],
            prompts: Sequence[Prompt], *, measure: str, scores: Sequence[str] = (), judge: str = "",
            template: str | None = None, system: str | None = None, batch_size: int | None = None,
            keep_answers: bool = False) -> Prepared:
    """The plan of a run, and its header; see `run_sweep`.

    Raises:
        MismatchError: when the calibration was made on another model.
        ParameterError: when there are no prompts, or a parameter of the method is wrong.
    """
    if not prompts or (batch_size is not None and batch_size < 1):
        raise ParameterError(f"a sweep needs prompts and a batch of at least one row; got {len(prompts)} and "
                             f"{batch_size}.")
    shared = material(model, calibration, prompts, template, system)
    cells = plan([grid] if isinstance(grid, Grid) else grid, model, calibration, shared)
    header = {**shared, "measure": measure, "keep_answers": keep_answers, "n": len(prompts), "scores": list(scores),
              "judge": judge, "lenssteer": version("lenssteer"), "card": asdict(model.card), "seen": hashes(prompts)}
    rows = batch_size or (usual_rows(model) if isinstance(model, LensModel) else ENGINE_ROWS)
    return Prepared(header, cells, grouped(cells, max(1, rows // len(prompts))), prompts, keep_answers)


def missing_of(run: RunFolder, group: Group) -> dict[str, Planned]:
    """The cells of a group that are not finished."""
    return {key: planned for key, planned in group.items() if key not in run.rows}


def infinite(scores: Scores) -> str | None:
    """Which score is no finite number, in words; None where all are, or unscored."""
    for name, values in scores.items():
        bad = [value for value in values if value is not None and not math.isfinite(value)]
        if bad:
            return f"the score {name} is {bad[0]} at {len(bad)} of {len(values)} prompts; the setting breaks the model."
    return None


def _share(run: RunFolder, group: Group, batch: str, missing: int,
           cost: Mapping[str, float | int]) -> dict[str, float | int]:
    """What each of the missing cells of a group bears.

    Where the group was cut short, that is what its finished cells bore, in all but seconds, so that a resumed run
    records what an uninterrupted one does.
    """
    seconds = {"seconds": round(cost["seconds"] / missing, 3)}
    for key in group:
        row = run.rows.get(key)
        if row is not None and row.batch == batch and row.cost is not None:
            return {**row.cost, **seconds}
    return {**{name: round(value / missing, 3) for name, value in cost.items()}, **seconds, "cells": missing}


@dataclass(frozen=True, eq=False)
class Runner:
    """Answers to all prompts under the cells of one group."""

    calibration: Calibration
    prompts: Sequence[Prompt]
    template: str | None
    system: str | None
    batch_size: int | None

    def __call__(self, model: LensModel | Engine, cells: Sequence[Planned]) -> list[Found]:
        """Answers and error of every cell; where a batch breaks, its halves run apart."""
        try:
            return [(answers, None) for answers in self._answers(model, cells)]
        except SteeringError as error:
            if len(cells) == 1:
                return [([], str(error))]
        half = len(cells) // 2
        return [*self(model, cells[:half]), *self(model, cells[half:])]

    def _answers(self, model: LensModel | Engine, cells: Sequence[Planned]) -> list[list[str]]:
        parts = [self._part(list(alike)) for _, alike in groupby(cells, key=lambda planned: planned.frame)]
        decoding = cells[0].cell.decoding
        options: dict[str, Any] = {"template": self.template, "system": self.system}
        if not isinstance(model, LensModel):
            return model.answers(parts, self.prompts, decoding, **options)
        return stacked_answers(model, parts, self.prompts, decoding, batch_size=self.batch_size, **options)

    def _part(self, alike: Sequence[Planned]) -> tuple[Steerer | None, int]:
        """The steerer of cells that differ in their amount only."""
        first = alike[0]
        if first.cell.method == UNSTEERED:
            return None, 1
        amounts = [planned.cell.amount for planned in alike if planned.cell.amount is not None]
        rows = one_a_row(amounts, len(self.prompts)) if amounts else None
        return first.grid.steerer(self.calibration, first.grid.source_of(first.cell), rows), len(alike)
