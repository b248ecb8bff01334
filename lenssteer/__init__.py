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
    from lenssteer.capture import ActivationStore, ReadAt, activations, capture_moments
    from lenssteer.directions import Direction, Plane
    from lenssteer.edits import LowRankEdit, apply_edit
    from lenssteer.errors import LenssteerError
    from lenssteer.maths import Moments
    from lenssteer.models import Decoding, LensModel, generate, load_model, selfcheck, wrap
    from lenssteer.prompts import ContrastSet
    from lenssteer.recipe import Calibration, calibrate
    from lenssteer.site import Site
    from lenssteer.steering import Receipt, Steerer, Where, hook_function
    from lenssteer.sweeps import sweep_answers

_HOMES = {
    "ActivationStore": "capture", "Calibration": "recipe", "ContrastSet": "prompts", "Decoding": "models",
    "Direction": "directions", "LensModel": "models", "LenssteerError": "errors", "LowRankEdit": "edits",
    "Moments": "maths", "Plane": "directions", "ReadAt": "capture", "Receipt": "steering", "Site": "site",
    "Steerer": "steering", "Where": "steering", "activations": "capture", "apply_edit": "edits",
    "calibrate": "recipe", "capture_moments": "capture", "generate": "models", "hook_function": "steering",
    "load_model": "models", "selfcheck": "models", "sweep_answers": "sweeps", "wrap": "models",
}

__all__ = [
    "ActivationStore", "Calibration", "ContrastSet", "Decoding", "Direction", "LensModel", "LenssteerError",
    "LowRankEdit", "Moments", "Plane", "ReadAt", "Receipt", "Site", "Steerer", "Where", "activations", "apply_edit",
    "calibrate", "capture_moments", "edits", "generate", "hook_function", "load_model", "selfcheck", "sweep_answers",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lenssteer.{_HOMES[name]}"), name)
    if name == "edits":
        return import_module("lenssteer.edits")
    raise AttributeError(f"module 'lenssteer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
