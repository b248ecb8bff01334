"""The plan of a run: cells of all its grids, and which of them share a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from lenssteer.errors import ParameterError
from lenssteer.models.protocol import Sited
from lenssteer.recipe import Calibration
from lenssteer.sweeps.grid import UNSTEERED, Cell, Grid


@dataclass(frozen=True, eq=False)
class Planned:
    """A cell and the grid that it comes from."""

    cell: Cell
    grid: Grid

    @cached_property
    def frame(self) -> dict[str, Any]:
        """All of the cell but its amount: cells alike in it are one stacked edit."""
        return {name: value for name, value in asdict(self.cell).items() if name != "amount"}


def plan(grids: Sequence[Grid], model: Sited, calibration: Calibration,
         material: Mapping[str, Any]) -> dict[str, Planned]:
    """The cells of all grids by hash, each once, after the first steerer of each grid was found to fit the model.

    Raises:
        ParameterError: when there is no grid, or a parameter is wrong.
        MismatchError: when the calibration was made on another model.
    """
    if not grids:
        raise ParameterError("a sweep needs at least one grid.")
    found: dict[str, Planned] = {}
    for grid in grids:
        cells = grid.cells(calibration)
        first = next(cell for cell in cells if cell.method != UNSTEERED)
        grid.steerer(calibration, grid.source_of(first), first.amount).check(model)
        for cell in cells:
            found.setdefault(cell.sha256(material), Planned(cell, grid))
    return found


def grouped(cells: Mapping[str, Planned], size: int) -> list[dict[str, Planned]]:
    """Cells by hash, cut in order into groups of at most `size` that are decoded alike; sampled ones stand alone.

    The cut depends on the grids alone, so a resumed sweep batches as an uninterrupted one does.
    """
    groups: list[dict[str, Planned]] = []
    for key, planned in cells.items():
        decoding = planned.cell.decoding
        alike = bool(groups) and next(iter(groups[-1].values())).cell.decoding == decoding
        if alike and decoding.temperature == 0 and len(groups[-1]) < size:
            groups[-1][key] = planned
        else:
            groups.append({key: planned})
    return groups
