"""lenssteer: steer language models through their activations.

    model = lenssteer.load_model("demo")
    calibration = lenssteer.calibrate(model, contrast)
    steerer = calibration.steerer("selective", degrees=180)
    with steerer.on(model) as receipt:
        answers = lenssteer.generate(model, prompts)

Names are imported when they are first used, so that `import lenssteer` and `lenssteer --help` are quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenssteer import edits
    from lenssteer.capture import ActivationStore, ReadAt, activations, capture_moments, capture_samples
    from lenssteer.directions import Boundary, Direction, Plane, fit_alphasteer, logistic_boundary
    from lenssteer.edits import LowRankEdit, apply_edit
    from lenssteer.errors import LenssteerError
    from lenssteer.evals import Reference, answer_nll, calibrate_strength, converse, next_token_divergence
    from lenssteer.maths import Moments
    from lenssteer.models import Decoding, LensModel, generate, load_model, selfcheck, wrap
    from lenssteer.prompts import AnswerContrast, ContrastSet, Exchange
    from lenssteer.recipe import Calibration, calibrate, on_policy_contrast
    from lenssteer.saes import Sae, load_sae
    from lenssteer.site import Site
    from lenssteer.steering import (
        Condition,
        Receipt,
        Schedule,
        Steerer,
        Where,
        fit_condition,
        hook_function,
        together,
    )
    from lenssteer.sweeps import Grid, run_sweep, sweep_answers

_HOMES = {
    "ActivationStore": "capture", "AnswerContrast": "prompts", "Boundary": "directions", "Calibration": "recipe",
    "Condition": "steering", "ContrastSet": "prompts", "Decoding": "models", "Direction": "directions",
    "Exchange": "prompts", "Grid": "sweeps", "LensModel": "models", "LenssteerError": "errors",
    "LowRankEdit": "edits", "Moments": "maths", "Plane": "directions", "ReadAt": "capture", "Receipt": "steering",
    "Reference": "evals", "Sae": "saes", "Schedule": "steering", "Site": "site", "Steerer": "steering",
    "Where": "steering", "activations": "capture", "answer_nll": "evals", "apply_edit": "edits",
    "calibrate": "recipe", "calibrate_strength": "evals", "capture_moments": "capture", "capture_samples": "capture",
    "converse": "evals", "fit_alphasteer": "directions", "fit_condition": "steering", "generate": "models",
    "hook_function": "steering", "load_model": "models", "load_sae": "saes", "logistic_boundary": "directions",
    "next_token_divergence": "evals", "on_policy_contrast": "recipe", "run_sweep": "sweeps", "selfcheck": "models",
    "sweep_answers": "sweeps", "together": "steering", "wrap": "models",
}

__all__ = [
    "ActivationStore", "AnswerContrast", "Boundary", "Calibration", "Condition", "ContrastSet", "Decoding",
    "Direction", "Exchange", "Grid", "LensModel", "LenssteerError", "LowRankEdit", "Moments", "Plane", "ReadAt",
    "Receipt", "Reference", "Sae", "Schedule", "Site", "Steerer", "Where", "activations", "answer_nll", "apply_edit",
    "calibrate", "calibrate_strength", "capture_moments", "capture_samples", "converse", "edits", "fit_alphasteer",
    "fit_condition", "generate", "hook_function", "load_model", "load_sae", "logistic_boundary",
    "next_token_divergence", "on_policy_contrast", "run_sweep", "selfcheck", "sweep_answers", "together", "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lenssteer.{_HOMES[name]}"), name)
    if name == "edits":
        return import_module("lenssteer.edits")
    raise AttributeError(f"module 'lenssteer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
