"""Vectors and planes of other tools as steerers."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lenssteer.edits import add
from lenssteer.errors import MismatchError, ParameterError
from lenssteer.exports.arrays import Arrays, read_arrays
from lenssteer.exports.rotations import is_planes, plane_edits
from lenssteer.exports.vectors import Modules, layer_vectors, repeng_vectors
from lenssteer.models import LensModel
from lenssteer.models.modules import module_sites
from lenssteer.nearest import unknown
from lenssteer.site import SITE_SETS, Site, sites_of
from lenssteer.steering import Steerer, Where

SOURCES = ("auto", "repeng", "steering-vectors", "planes")


def import_steerer(
    path: Path | str,
    model: LensModel,
    *,
    source: str = "auto",
    coefficient: float | int = 1.0,
    degrees: float | int | None = None,
    method: str = "selective",
    sites: str | None = None,
    where: str = "all",
) -> Steerer:
    """A steerer from what another tool wrote.

    Args:
        path: A GGUF control vector (repeng, llama.cpp), vectors by layer (steering-vectors) or planes (Selective and
            Angular Steering) as safetensors, npy or JSON.
        model: What it is for; width, layers and streams are checked.
        source: "repeng", "steering-vectors", "planes", or "auto" by what the file holds.
        coefficient: Of vectors, which are added as they are at 1.
        degrees: Of planes.
        method: Of planes: "selective", "standard-angular" or "adaptive-angular".
        sites: Those to use of the file's, or where a vector or plane without a place goes: a name such as norm_out, or
            sites with commas between.
        where: Which tokens are edited.

    Raises:
        FileError: when the file is a pickle, damaged, or not of that source.
        ParameterError: when a parameter is missing, or belongs to another source.
        MismatchError: when it is for another model.
        SiteError: when the model has no such layer or stream.
    """
    if source not in SOURCES:
        raise ParameterError(unknown("source", source, SOURCES))
    rule, wanted = Where.parse(where), _wanted(sites, model)
    arrays = read_arrays(path)
    source = _told(Path(path), arrays) if source == "auto" else source
    modules: Modules = partial(_modules, model)
    if source == "planes":
        if coefficient != 1.0:
            raise ParameterError("planes take degrees=, not coefficient=.")
        edits: dict[Site, Any] = dict(plane_edits(arrays, method, degrees, modules, wanted or sites_of(
            "norm_out", model.card.n_layers)))
        parameters = {"method": method, "degrees": degrees}
    else:
        if degrees is not None:
            raise ParameterError(f"vectors of {source} take coefficient=, not degrees=.")
        vectors = repeng_vectors(arrays) if source == "repeng" else layer_vectors(arrays, modules, wanted)
        _refuse_width({str(site): len(vector) for site, vector in vectors.items()}, model)
        edits = {site: add(vector, coefficient) for site, vector in vectors.items()}
        parameters = {"method": "addition", "coefficient": coefficient}
    provenance = {**parameters, "imported": source, "file": Path(path).name, "sha256": arrays.sha256,
                  "notes": dict(arrays.notes)}
    steerer = Steerer(_chosen(edits, wanted), rule, model.card, provenance)
    steerer.check(model)
    return steerer


def _told(path: Path, arrays: Arrays) -> str:
    if path.suffix.lower() == ".gguf":
        return "repeng"
    return "planes" if is_planes(arrays) else "steering-vectors"


def _modules(model: LensModel) -> dict[str, Site]:
    return {name: site for site, (name, side) in module_sites(model.card.name).items() if side == "output"}


def _wanted(sites: str | None, model: LensModel) -> Sequence[Site] | None:
    if sites is None:
        return None
    if sites.strip() in SITE_SETS:
        return sites_of(sites.strip(), model.card.n_layers)
    return [Site.parse(part.strip()) for part in sites.split(",")]


def _chosen(edits: Mapping[Site, Any], wanted: Sequence[Site] | None) -> dict[Site, Any]:
    """The edits at the sites asked for.

    Raises:
        MismatchError: when the file has nothing for one of them.
    """
    if wanted is None:
        return dict(sorted(edits.items()))
    absent = [site for site in wanted if site not in edits]
    if absent:
        raise MismatchError(f"the file has nothing for {absent[0]}; it has {', '.join(map(str, sorted(edits)))}.")
    return {site: edits[site] for site in wanted}


def _refuse_width(widths: Mapping[str, int], model: LensModel) -> None:
    for site, width in widths.items():
        if width != model.card.d_model:
            raise MismatchError(f"the vector at {site} has {width} values, {model.card.name} has d_model "
                                f"{model.card.d_model}; it was made on another model.")
