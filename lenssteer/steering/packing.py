"""Edits and gates as JSON and tensors; no code in either."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lenssteer.edits import LowRankEdit
from lenssteer.errors import FileError
from lenssteer.site import Site
from lenssteer.steering.gates import Condition, Gate, Rule
from lenssteer.steering.protocol import Edit


def pack_edits(edits: Mapping[Site, Edit]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Edits as JSON and tensors; arrays shared by sites are stored once."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    sites: dict[str, Any] = {}
    parts = {site: edits[site].tensors() for site in sorted(edits)}
    for site, named in parts.items():
        arrays: dict[str, str] = {}
        for part, tensor in named.items():
            arrays[part] = names.setdefault(id(tensor), f"{site}/{part}")
            tensors.setdefault(arrays[part], tensor.clone())
        sites[str(site)] = {"arrays": arrays, **_options(site, edits[site])}
    return sites, tensors


def _options(site: Site, edit: Edit) -> dict[str, Any]:
    if isinstance(edit, LowRankEdit):
        return {"norm": edit.norm, "radius": edit.radius}
    kind, options = getattr(edit, "kind", None), getattr(edit, "options", None)
    if not isinstance(kind, str) or options is None:
        raise FileError(f"the edit at {site} is a {type(edit).__name__}, which does not say how it is saved.")
    return {"kind": kind, "options": dict(options())}


def unpack_edits(sites: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[Site, Edit]:
    """What `pack_edits` packed."""
    return {Site.parse(name): _edit(entry, {part: tensors[key] for part, key in entry["arrays"].items()})
            for name, entry in sites.items()}


def _edit(entry: Mapping[str, Any], arrays: dict[str, Tensor]) -> Edit:
    if "kind" not in entry:
        if not all(tensor.is_floating_point() for tensor in arrays.values()):
            raise FileError("the arrays of an edit are whole numbers; expected floating-point ones.")
        return LowRankEdit(**arrays, norm=entry["norm"], radius=entry["radius"])
    if entry["kind"] != "sae":
        raise FileError(f"unknown kind of edit {entry['kind']!r}; it was written by a newer lenssteer.")
    from lenssteer.edits.sae import SaeEdit

    edit = SaeEdit.from_tensors(arrays, entry["options"])
    if edit.latents.is_floating_point() or ((edit.latents < 0) | (edit.latents >= edit.sae.d_sae)).any():
        raise FileError(f"an edit names latents that its autoencoder of {edit.sae.d_sae} does not have.")
    return edit


def pack_gate(gate: Gate) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A gate as JSON, its conditions by number, and their vectors."""
    conditions = gate.conditions
    described = [{"site": str(c.site), "threshold": c.threshold, "similarity": c.similarity, "above": c.above,
                  "pool": c.pool, "scope": c.scope, "f1": c.f1} for c in conditions]
    vectors = {f"gate/{i}": condition.vector.clone() for i, condition in enumerate(conditions)}
    return {"conditions": described, "rule": _rule(gate, conditions)}, vectors


def _rule(gate: Gate, conditions: tuple[Condition, ...]) -> Any:
    if isinstance(gate, Rule):
        return {gate.kind: [_rule(part, conditions) for part in gate.parts]}
    return next(i for i, condition in enumerate(conditions) if condition is gate)


def unpack_gate(packed: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Gate:
    """What `pack_gate` packed."""
    conditions = [Condition(**{**entry, "site": Site.parse(entry["site"]), "vector": tensors[f"gate/{i}"]})
                  for i, entry in enumerate(packed["conditions"])]
    return _built(packed["rule"], conditions)


def _built(rule: Any, conditions: list[Condition]) -> Gate:
    if isinstance(rule, int):
        return conditions[rule]
    (kind, parts), = rule.items()
    if kind not in ("and", "or", "not"):
        raise FileError(f"unknown rule {kind!r} in a gate; it was written by a newer lenssteer.")
    return Rule(kind, tuple(_built(part, conditions) for part in parts))
