"""Parts of a sweep: cells that one worker answers together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lenssteer.cluster.task import Lost, Task
from lenssteer.cluster.worker import ModelSpec
from lenssteer.evals.scoring import Scorer, Scores, scorer_of
from lenssteer.models import LensModel
from lenssteer.prompts import Prompt
from lenssteer.sweeps.folder import RunFolder
from lenssteer.sweeps.plan import Planned
from lenssteer.sweeps.run import Found, Group, Prepared, Runner

ON_WORKERS = ("nll",)
"""Scores that need the model; judges and measures of text stay with the driver."""
NOTHING: Mapping[str, float | int] = {"tokens": 0, "prompt_tokens": 0, "generated_tokens": 0, "passes": 0,
                                      "seconds": 0.0}
Answered = tuple[list[Found], dict[str, float | int], list[Scores]]
"""Answers and error of every cell, their cost together, and the scores of those without an error."""


@dataclass(frozen=True, eq=False)
class Part:
    """Cells of one group of one sweep.

    Args:
        sweep: Number of the sweep.
        group: The cells that share a batch in one process.
        cells: Those of them to be answered.
        runner: Answers them; shared with the workers.
        scores: Names of the scores that workers give.
    """

    sweep: int
    group: Group
    cells: Group
    runner: Any
    scores: tuple[str, ...]

    def task(self, model: ModelSpec) -> Task:
        """Its task; in halves where it has more than one cell and costs workers."""
        def halves() -> list[Task]:
            keys = list(self.cells)
            cut = len(keys) // 2
            return [replace(self, cells={key: self.cells[key] for key in half}).task(model)
                    for half in (keys[:cut], keys[cut:])]

        return Task(model, answered, (self.runner, list(self.cells.values()), self.scores),
                    halves if len(self.cells) > 1 else None, self)

    def record(self, sweep: Prepared, run: RunFolder, found: Answered | Lost, score: Scorer) -> None:
        """Append the rows of its cells; where its workers died, with that as their error."""
        if isinstance(found, Lost):
            sweep.record(run, self.group, self.cells, [([], found.message)] * len(self.cells), NOTHING, score)
            return
        answers, cost, theirs = found
        measured = iter(theirs)

        def whole(prompts: Sequence[Prompt], told: Sequence[str]) -> Scores:
            known = {**score(prompts, told), **next(measured)}
            return {name: known[name] for name in sweep.header["scores"]}

        sweep.record(run, self.group, self.cells, answers, cost, whole)


def answered(model: LensModel, runner: Runner, cells: list[Planned], scores: tuple[str, ...]) -> Answered:
    """On a worker: answers of cells, and the scores that need the model."""
    with model.metered() as cost:
        found = runner(model, cells)
    if not scores:
        return found, cost.as_dict(), [{} for _, error in found if not error]
    score = scorer_of(scores, model=model, system=runner.system)
    return found, cost.as_dict(), [score(runner.prompts, answers) for answers, error in found if not error]
