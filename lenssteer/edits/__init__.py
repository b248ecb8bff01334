"""Steering as one low-rank map; every method is a constructor of it."""

from lenssteer.edits.ablation import ablate
from lenssteer.edits.addition import add
from lenssteer.edits.edit import LowRankEdit, apply_edit, coordinates
from lenssteer.edits.rotation import rotate_by, rotate_to

__all__ = ["LowRankEdit", "ablate", "add", "apply_edit", "coordinates", "rotate_by", "rotate_to"]
