"""Steerers of benchmarks: read from a folder, one edit for all prompts."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenssteer.errors import FileError, ParameterError
from lenssteer.recipe import Calibration
from lenssteer.steering import Steerer
from lenssteer.steering.packing import pack_edits, pack_gate
from lenssteer.values import named_values


def saved_steerer(folder: str, method: str, given: str | Mapping[str, Any], where: str | None) -> Steerer:
    """The steerer of a folder: a saved one, or one made of a calibration.

    Raises:
        FileError: when the folder holds neither.
        ParameterError: when the method or a parameter is wrong.
    """
    place = Path(folder)
    if (place / "steerer.json").is_file():
        steerer = Steerer.load(place)
        return steerer.at(where) if where else steerer
    if not (place / "calibration.json").is_file():
        raise FileError(f"{folder} holds no calibration and no steerer; make one with `lenssteer calibrate`.")
    return Calibration.load(place).steerer(method, where=where, **_values(given))


def _values(given: str | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, str):
        return dict(given)
    return named_values(part for part in given.split(",") if part.strip())


def refuse_rows(steerer: Steerer | None) -> None:
    """Refuse a steerer whose edits have one row a prompt.

    Raises:
        ParameterError: when it has.
    """
    if steerer is not None and any(edit.rows for edit in steerer.edits.values()):
        raise ParameterError("a steerer with rows steers each prompt in its own way; take() one row for a benchmark.")


def identity(steerer: Steerer | None) -> str:
    """SHA-256 of all that a steerer does: edits bit by bit, gate, schedule and tokens; "" for none."""
    if steerer is None:
        return ""
    sites, tensors = pack_edits(steerer.edits)
    gate, vectors = pack_gate(steerer.gate) if steerer.gate is not None else ({}, {})
    told = [sites, gate, str(steerer.where), steerer.late_gate, steerer.shared_from,
            asdict(steerer.schedule) if steerer.schedule is not None else None]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted({**tensors, **vectors}.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
