"""The end-to-end story: prompts to a calibration to a steerer."""

from lenssteer.recipe.calibration import Calibration, calibrate, fit
from lenssteer.recipe.methods import CATALOGUE, METHODS, Method, find_method

__all__ = ["CATALOGUE", "METHODS", "Calibration", "Method", "calibrate", "find_method", "fit"]
