"""Planes of the rotation papers' own code, as rotations at sites."""

import re
from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float64
from torch import Tensor

from lenssteer.edits import LowRankEdit, rotate_by, rotate_to
from lenssteer.errors import FileError, ParameterError
from lenssteer.exports.arrays import Arrays
from lenssteer.exports.vectors import Modules
from lenssteer.maths import orthonormalise
from lenssteer.nearest import unknown
from lenssteer.site import Site

ROTATIONS: dict[str, Callable[[Tensor, float | int], LowRankEdit]] = {
    "selective": lambda basis, degrees: rotate_by(basis, degrees=degrees),
    "standard-angular": lambda basis, degrees: rotate_to(basis, degrees=degrees),
    "adaptive-angular": lambda basis, degrees: rotate_to(basis, degrees=degrees, adaptive=True),
}
PAIRS = (("b1", "b2"), ("first_direction", "second_direction"), ("basis.0", "basis.1"))
WHOLE = ("", "basis", "plane")


def is_planes(arrays: Arrays) -> bool:
    """Whether the arrays are planes by their names, or the one array is [2, d_model]."""
    last = {re.split(r"[./]", name)[-1] for name in arrays.named}
    if last & {"b1", "first_direction", "basis", "plane"}:
        return True
    only = next(iter(arrays.named.values()))
    return len(arrays.named) == 1 and only.ndim == 2 and len(only) == 2


def plane_edits(arrays: Arrays, method: str, degrees: float | int | None, modules: Modules,
                sites: Sequence[Site]) -> dict[Site, LowRankEdit]:
    """Rotations in planes that a file holds, by site.

    A plane is [2, d_model], or b1 and b2, or first_direction and second_direction; it is orthonormalised here, b1
    first, as Angular Steering's code does when it is used. Names before that place it: a module
    (model.layers.3.input_layernorm), a site (ln1_out.3) or a layer, for both its norms. One plane without a name is
    used at all `sites`.

    Args:
        arrays: Of the file.
        method: selective, standard-angular or adaptive-angular.
        degrees: Of the rotation.
        modules: Gives the sites of the model by module.
        sites: Where a plane without a place is used.

    Raises:
        ParameterError: when the method is unknown, or the angle is missing.
        FileError: when an array is no plane, or its place is unknown.
        DirectionError: when its two vectors are parallel or zero.

    Source: Dang & Ngo 2026, arXiv:2601.19375, and Vu & Nguyen 2025, arXiv:2510.26243, their code's files.
    """
    if method not in ROTATIONS:
        raise ParameterError(unknown("rotation", method, ROTATIONS))
    if degrees is None:
        raise ParameterError("a plane alone does not say how far to rotate; give degrees=, for example 200.")
    placed: dict[Site, LowRankEdit] = {}
    for place, basis in _bases(arrays.named).items():
        placed |= dict.fromkeys(_sites(place, modules, sites), ROTATIONS[method](basis, degrees))
    return placed


def _bases(named: Mapping[str, Tensor]) -> dict[str, Float64[Tensor, "2 d_model"]]:
    """Orthonormal planes by their place."""
    found: dict[str, Tensor] = {}
    for name, array in named.items():
        place, part = _split(name)
        if part in WHOLE or (len(named) == 1 and array.ndim == 2):
            if array.ndim != 2 or len(array) != 2:
                raise FileError(f"{name or 'the array'} has shape {list(array.shape)}; expected [2, d_model].")
            found[place if part in WHOLE else ""] = orthonormalise(array[0], array[1])
        elif part in [first for first, _ in PAIRS]:
            second = name.removesuffix(part) + dict(PAIRS)[part]
            if second not in named or array.ndim != 1 or named[second].shape != array.shape:
                raise FileError(f"{name} has no {second} of the same shape beside it; a plane takes both.")
            found[place] = orthonormalise(array, named[second])
        elif part not in [second for _, second in PAIRS]:
            raise FileError(f"{name!r} is no part of a plane; expected b1 and b2, first_direction and "
                            "second_direction, or one array [2, d_model].")
    return found


def _split(name: str) -> tuple[str, str]:
    """What comes before the last word of a name, and that word."""
    for part in ("basis.0", "basis.1"):
        if name.endswith(part):
            return name.removesuffix(part).rstrip("./"), part
    place, _, part = name.replace("/", ".").rpartition(".")
    return place, part


def _sites(place: str, modules: Modules, sites: Sequence[Site]) -> Sequence[Site]:
    if not place:
        return sites
    if place.isdecimal():
        return Site(int(place), "ln1_out"), Site(int(place), "ln2_out")
    if re.fullmatch(r"\w+\.\d+", place) and not place.startswith(("layers", "h.")):
        return (Site.parse(place),)
    known = modules()
    if place not in known:
        raise FileError(f"{place!r} is no module of this model that is a site; {unknown('module', place, known)}")
    return (known[place],)
