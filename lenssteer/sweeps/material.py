"""What the cells of a run are run on, by hash: model, calibration and prompts."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from lenssteer.engines.engine import Engine
from lenssteer.models import LensModel, ModelCard
from lenssteer.prompts import Columns, Prompt, pad
from lenssteer.recipe import Calibration
from lenssteer.sweeps.grid import sha256_of


def model_identity(card: ModelCard) -> dict[str, Any]:
    """What identifies the weights, their frame and the backend; the name only where the weights have no fingerprint."""
    named = asdict(card)
    kept = {name: named[name] for name in ("fingerprint", "frame", "backend", "n_layers", "d_model")}
    return kept if card.fingerprint else {**kept, "name": card.name}


def dtype_of(model: LensModel | Engine, prompt: Prompt, template: str | None, system: str | None) -> str:
    """What the model computes in, by its logits for a prompt or as its engine says; a fingerprint is the same in every
    dtype."""
    if not isinstance(model, LensModel):
        return model.dtype
    tokens = pad(model.encode([prompt], template=template, system=system), pad_id=model.pad_id)
    return str(model.run(tokens.ids, Columns(0, tokens.mask, tokens)).dtype).removeprefix("torch.")


def prompts_sha256(prompts: Sequence[Prompt]) -> str:
    """SHA-256 of prompts in their order."""
    return sha256_of([prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt] for prompt in prompts])


def calibration_sha256(calibration: Calibration) -> str:
    """SHA-256 of what determines a calibration: moments, samples and plane bit by bit, rules, and its record.

    A calibration that was saved and loaded has the same; how long it took does not count.
    """
    moments, samples, plane = calibration.moments, calibration.samples, calibration.fitted_plane
    tensors: dict[str, Tensor | None] = {"plane": plane.basis if plane else None}
    for name in ("positive", "negative", "positive_unit", "negative_unit"):
        tensors |= {f"{name}/mean": getattr(moments, name).mean, f"{name}/scatter": getattr(moments, name).scatter}
        if samples is not None and not name.endswith("unit"):
            tensors[f"samples/{name}"] = getattr(samples, name)
    return sha256_of({
        "tensors": {name: tensor_sha256(tensor) for name, tensor in tensors.items() if tensor is not None},
        "sites": [str(site) for site in calibration.sites], "source": str(calibration.direction.site),
        "finder": calibration.finder, "rule": calibration.rule, "control": calibration.control,
        "n": [moments.positive.n, moments.negative.n],
        "record": {name: value for name, value in calibration.record.items() if name != "seconds"}})


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    array = tensor.detach().cpu().contiguous().numpy()
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()


def material(model: LensModel | Engine, calibration: Calibration, prompts: Sequence[Prompt], template: str | None,
             system: str | None) -> dict[str, Any]:
    """What every cell of a run shares, and what a run folder may not change."""
    identity = {**model_identity(model.card), "dtype": dtype_of(model, prompts[0], template, system)}
    return {"model": identity, "calibration": calibration_sha256(calibration),
            "prompts": prompts_sha256(prompts), "template": template or model.template, "system": system}
