"""The end-to-end story: prompts to a calibration to a steerer."""

from lenssteer.methods import CATALOGUE, find_method
from lenssteer.recipe.calibrating import calibrate
from lenssteer.recipe.calibration import Calibration
from lenssteer.recipe.on_policy import on_policy_contrast

__all__ = ["CATALOGUE", "Calibration", "calibrate", "find_method", "on_policy_contrast"]
