"""Many settings of a steerer in one run, and runs that can be killed and go on."""

from lenssteer.sweeps.folder import read_rows, read_run
from lenssteer.sweeps.grid import Cell, Grid, amounts_of
from lenssteer.sweeps.phrases import PHRASE_MEASURE, phrase_scores
from lenssteer.sweeps.row import CellRow, Scorer
from lenssteer.sweeps.run import run_sweep
from lenssteer.sweeps.stacked import sweep_answers

__all__ = ["Cell", "CellRow", "Grid", "PHRASE_MEASURE", "Scorer", "amounts_of", "phrase_scores", "read_rows",
           "read_run", "run_sweep", "sweep_answers"]
