"""Planes side by side: the same rotation in every plane there is a rule for, at equal side effect."""

from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

from lenssteer.directions import PLANES
from lenssteer.errors import DirectionError
from lenssteer.evals import Reference
from lenssteer.models import LensModel
from lenssteer.progress import track
from lenssteer.recipe import Calibration, calibrate
from lenssteer.studies.arms import Arm, arms
from lenssteer.studies.compare import best_of, calibrated
from lenssteer.studies.tasks import Task

SPAN = "span(h, d)"


def compare_planes(model: LensModel, task: Task, *, target_kl: float = 0.1, seed: int = 0,
                   progress: bool = False) -> dict[str, Any]:
    """Selective steering in every kind of plane, and rotation in span(h, d), on the selection split.

    The sense and the angle (or the layer) of each are chosen and shown on the same selection prompts: a table for
    choosing a plane, not a result.

    Args:
        model: Unsteered.
        task: Its calibration and selection prompts are used.
        target_kl: Side effect every plane is brought to, in nats a token on harmless prompts.
        seed: Of the random plane.
        progress: Whether to show progress bars.
    """
    started = perf_counter()
    norm_out = calibrate(model, task.calibration, sites="norm_out")
    resid = calibrate(model, task.calibration, sites="resid_post", samples=True)
    reference = Reference.of(model, task.selection.negative)
    tried = {kind: _plane_arms(kind, norm_out, seed) for kind in PLANES}
    tried[SPAN] = arms("spherical", resid, norm_out)
    rows = []
    for kind in track(list(tried), "planes" if progress else ""):
        best = best_of([calibrated(model, arm, task, reference, target_kl) for arm in tried[kind]])
        if best is None:
            rows.append({"plane": kind, "setting": "none works here"})
            continue
        rows.append({"plane": kind, "setting": best.arm.label, "strength": best.strength, "kl": best.kl,
                     "reached": best.reached, "success": best.success})
    return {"rows": rows, "target_kl": target_kl, "measure": task.measure, "seed": seed, "model": asdict(model.card),
            "n": len(task.selection.positive), "seconds": perf_counter() - started}


def _plane_arms(kind: str, norm_out: Calibration, seed: int) -> Sequence[Arm]:
    """Both senses of turning in one plane; none where the evidence determines no such plane."""
    try:
        turned = norm_out.random_control(seed) if kind == "random" else norm_out.with_plane(kind)
    except DirectionError:
        return []
    return arms("selective", turned, turned)
