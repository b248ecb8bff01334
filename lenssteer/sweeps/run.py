"""A sweep that can be killed: runs the cells that a folder does not hold yet, many to a batch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lenssteer.errors import ParameterError, SteeringError
from lenssteer.models import LensModel, generate
from lenssteer.progress import track
from lenssteer.prompts import Prompt, hashes
from lenssteer.recipe import Calibration
from lenssteer.sweeps.folder import open_run
from lenssteer.sweeps.grid import UNSTEERED, Cell, Grid, grouped
from lenssteer.sweeps.material import material
from lenssteer.sweeps.row import CellRow, Scorer
from lenssteer.sweeps.stacked import sweep_answers


def run_sweep(
    model: LensModel,
    calibration: Calibration,
    grid: Grid,
    prompts: Sequence[Prompt],
    folder: Path | str,
    score: Scorer,
    *,
    measure: str,
    template: str | None = None,
    system: str | None = None,
    batch_size: int = 256,
    keep_answers: bool = False,
    progress: str = "",
) -> list[CellRow]:
    """Run every cell of a grid that the folder does not hold yet, and append one row a cell.

    Amounts of one source share batches, as many as fit into `batch_size` rows. Sampled answers are drawn cell by cell,
    so that prompt i has the same draws at every setting. A folder may hold several grids of one model, calibration
    and prompt set. A setting that breaks the model gets a row with its error; the others go on.

    Args:
        model: Unsteered.
        calibration: What steerers are made from.
        grid: The settings.
        prompts: Answered at every setting.
        folder: Of the run; see `lenssteer.sweeps.folder`.
        score: From prompts and answers to one number a prompt, or None where it is unscored, by name.
        measure: What `score` is, in words; a folder holds one measure.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch.
        keep_answers: Whether rows hold the answers too.
        progress: Label of a progress bar; "" for none.

    Returns:
        The rows of this grid, in its order.

    Raises:
        MismatchError: when the folder holds a run of another model, calibration or prompt set, or the calibration was
            made on another model.
        FileError: when another process is writing there.
        ParameterError: when there are no prompts, or a parameter of the method is wrong.
    """
    if not prompts or batch_size < 1:
        raise ParameterError(f"a sweep needs prompts and a batch of at least one row; got {len(prompts)} and "
                             f"{batch_size}.")
    shared = material(model, calibration, prompts, template, system)
    cells = {cell.sha256(shared): cell for cell in _checked(model, calibration, grid)}
    header = {**shared, "measure": measure, "keep_answers": keep_answers, "n": len(prompts),
              "card": asdict(model.card), "seen": hashes(prompts)}
    runner = _Runner(model, calibration, grid, prompts, template, system, batch_size)
    size = 1 if grid.decoding.temperature > 0 else max(1, batch_size // len(prompts))
    with open_run(folder, header, list(cells)) as run:
        groups = [{key: cell for key, cell in group.items() if key not in run.rows} for group in grouped(cells, size)]
        for group in track([group for group in groups if group], progress):
            for (key, cell), (answers, error) in zip(group.items(), runner(list(group.values())), strict=True):
                scores = {} if error else score(prompts, answers)
                run.append(CellRow.of(cell, key, len(prompts), scores, answers if keep_answers and not error else None,
                                      error))
        return [run.rows[key] for key in cells]


def _checked(model: LensModel, calibration: Calibration, grid: Grid) -> list[Cell]:
    """The cells, once the first steered one was found to fit the model."""
    cells = grid.cells(calibration)
    first = next(cell for cell in cells if cell.method != UNSTEERED)
    grid.steerer(calibration, grid.source_of(first), first.amount).check(model)
    return cells


@dataclass(frozen=True, eq=False)
class _Runner:
    """Answers to all prompts under cells of one group."""

    model: LensModel
    calibration: Calibration
    grid: Grid
    prompts: Sequence[Prompt]
    template: str | None
    system: str | None
    batch_size: int

    def __call__(self, cells: Sequence[Cell]) -> list[tuple[list[str], str | None]]:
        """Answers and error of every cell; where a batch breaks, its cells run one by one."""
        try:
            return [(answers, None) for answers in self._answers(cells)]
        except SteeringError as error:
            if len(cells) == 1:
                return [([], str(error))]
        return [self([cell])[0] for cell in cells]

    def _answers(self, cells: Sequence[Cell]) -> list[list[str]]:
        decoding, source = self.grid.decoding, self.grid.source_of(cells[0])
        amounts = [cell.amount for cell in cells if cell.amount is not None]
        options = {"template": self.template, "system": self.system, "batch_size": self.batch_size}
        if amounts:
            found = sweep_answers(self.model, lambda rows: self.grid.steerer(self.calibration, source, rows), amounts,
                                  self.prompts, decoding, **options)
            return [found[amount] for amount in amounts]
        if cells[0].method == UNSTEERED:
            return [generate(self.model, self.prompts, decoding, **options)]
        with self.grid.steerer(self.calibration, source, None).on(self.model):
            return [generate(self.model, self.prompts, decoding, **options)]
