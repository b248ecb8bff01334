"""The end-to-end story: prompts to a calibration to a steerer."""

from lenssteer.recipe.calibrating import calibrate
from lenssteer.recipe.calibration import Calibration
from lenssteer.recipe.methods import CATALOGUE, METHODS, Method, find_method

__all__ = ["CATALOGUE", "METHODS", "Calibration", "Method", "calibrate", "find_method"]
