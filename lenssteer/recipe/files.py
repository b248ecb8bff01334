"""Calibrations on disk: a readable JSON beside the moments, the plane and the samples."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenssteer.capture import ClassMoments, ClassSamples
from lenssteer.directions import Plane
from lenssteer.maths import Moments
from lenssteer.models import ModelCard
from lenssteer.site import Site
from lenssteer.steering.files import read_artefact, reading, write_artefact

MOMENTS = ("positive", "negative", "positive_unit", "negative_unit")


@dataclass(frozen=True, eq=False)
class Stored:
    """What a folder keeps of a calibration; all else follows from it.

    Args:
        moments: Class moments at every site.
        card: The model.
        rule: How discriminative sites are told.
        finder: How directions are found.
        direction: Site of the global direction.
        record: Where it all came from.
        plane: The plane of rotations, where there is one.
        samples: The activations, where they were kept.
    """

    moments: ClassMoments
    card: ModelCard
    rule: str
    finder: str
    direction: Site
    record: Mapping[str, Any]
    plane: Plane | None
    samples: ClassSamples | None


def write_calibration(folder: Path | str, stored: Stored, table: list[dict[str, Any]]) -> Path:
    """Write `calibration.json`, with the table for whoever reads it, and its tensors.

    Raises:
        FileError: when the folder cannot be written.
    """
    named: dict[str, Moments] = {name: getattr(stored.moments, name) for name in MOMENTS}
    tensors = {f"{name}/{part}": tensor for name, moments in named.items()
               for part, tensor in (("mean", moments.mean), ("scatter", moments.scatter)) if tensor is not None}
    plane, samples = stored.plane, stored.samples
    if plane is not None:
        tensors["plane"] = plane.basis
    if samples is not None:
        tensors |= {"samples/positive": samples.positive, "samples/negative": samples.negative}
    drawn = {"source": str(plane.source), "sign_rule": plane.sign_rule, "kind": plane.kind} if plane else None
    meta = {"model": asdict(stored.card), "plane": drawn, "rule": stored.rule, "finder": stored.finder,
            "sites": [str(site) for site in stored.moments.sites],
            "n": {name: moments.n for name, moments in named.items()}, "direction": str(stored.direction),
            "record": dict(stored.record), "table": [_finite(line) for line in table]}
    return write_artefact(folder, "calibration", meta, tensors)


def _finite(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in line.items()}


def read_calibration(folder: Path | str) -> Stored:
    """What `write_calibration` wrote.

    Raises:
        FileError: when the folder is not a calibration, or is damaged.
        MismatchError: when it was written in another format version.
    """
    meta, tensors = read_artefact(folder, "calibration")
    with reading(folder):
        moments = {name: Moments(n, tensors[f"{name}/mean"], tensors.get(f"{name}/scatter"))
                   for name, n in meta["n"].items()}
        sites = tuple(Site.parse(name) for name in meta["sites"])
        samples = ClassSamples(sites, tensors["samples/positive"], tensors["samples/negative"]) \
            if "samples/positive" in tensors else None
        drawn = meta["plane"]
        plane = Plane(tensors["plane"], Site.parse(drawn["source"]), drawn["sign_rule"],
                      kind=drawn.get("kind", "pca")) if drawn else None
        return Stored(ClassMoments(sites, **moments), ModelCard(**meta["model"]), meta["rule"],
                      meta.get("finder", "mean_difference"), Site.parse(meta["direction"]), meta["record"], plane,
                      samples)
