"""Many settings of a steerer in one run."""

from lenssteer.sweeps.stacked import sweep_answers

__all__ = ["sweep_answers"]
