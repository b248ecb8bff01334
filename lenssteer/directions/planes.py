"""Planes to rotate in, by kind. b1 is what the angle is measured from; the sign of b2 is that of `fix_sign`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.directions.candidates import Candidates
from lenssteer.directions.direction import Direction, Plane
from lenssteer.directions.evidence import Evidence
from lenssteer.directions.fisher import fisher_direction
from lenssteer.directions.named import look_up
from lenssteer.directions.selection import candidate_plane
from lenssteer.errors import DirectionError
from lenssteer.maths import fix_sign, karcher_mean, leading_eigenvector, orthonormalise, random_plane

RANK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class PlaneKind:
    """One way of choosing a plane.

    Args:
        name: As users write it.
        meaning: In a few words.
        needs: "means" or "scatter" of the evidence.
        basis: From candidates, evidence, the global direction and a seed to an orthonormal pair.
    """

    name: str
    meaning: str
    needs: Literal["means", "scatter"]
    basis: Callable[[Candidates, Evidence, Direction, int], Tensor]


def find_plane(kind: str, candidates: Candidates, evidence: Evidence, direction: Direction, seed: int = 0) -> Plane:
    """The plane of a kind.

    Args:
        kind: A name of `PLANES`.
        candidates: One direction a site.
        evidence: What they were found on.
        direction: The global direction.
        seed: Of kind "random" only.

    Raises:
        ParameterError: when the kind is unknown; the nearest name is suggested.
        DirectionError: when the scatter it needs was not kept, or there is no such plane.
    """
    basis = look_up(PLANES, kind, "plane").basis(candidates, evidence, direction, seed)
    return Plane(basis, direction.site, kind=kind)


def leading_plane(candidates: Candidates, direction: Direction) -> Float64[Tensor, "2 d_model"]:
    """Two leading right singular vectors of the usable unit candidates, uncentred; b1 on the side of the direction.

    Raises:
        DirectionError: when the candidates span less than a plane.
    """
    unit = candidates.unit[candidates.usable]
    _, sizes, axes = torch.linalg.svd(unit, full_matrices=False)
    if len(sizes) < 2 or sizes[1] <= RANK_TOLERANCE * sizes[0]:
        raise DirectionError(f"the directions of {len(unit)} sites span no plane; "
                             "capture sites whose directions differ.")
    first = axes[0] if axes[0] @ direction.vector >= 0 else -axes[0]
    return torch.stack([first, fix_sign(axes[1])])


def fisher_plane(candidates: Candidates, evidence: Evidence, direction: Direction) -> Float64[Tensor, "2 d_model"]:
    """b1 along the difference in means at the direction's site, b2 along what its Fisher direction adds to it.

    Raises:
        DirectionError: when the scatter was not kept, or both directions are the same.

    Source: Fisher 1936, with shrinkage 0.1; see `fisher`.
    """
    k = candidates.index(direction.site)
    difference = evidence.positive.mean[k] - evidence.negative.mean[k]
    first, second = orthonormalise(difference, fisher_direction(evidence, k))
    return torch.stack([first, fix_sign(second)])


def karcher_plane(candidates: Candidates, evidence: Evidence, direction: Direction) -> Float64[Tensor, "2 d_model"]:
    """Mean of the sites' planes, each of the site's direction and the leading axis of scatter within the classes.

        b1 = the direction's projection on the mean plane, unit length

    Raises:
        DirectionError: when the scatter was not kept, the mean does not converge, or the direction is at right angles.

    Source: Karcher 1977; the planes are our own choice, after the Grassmannian experiment of arXiv:2601.19375's code.
    """
    used = candidates.usable.nonzero().flatten().tolist()
    planes = [orthonormalise(candidates.unit[k], leading_eigenvector(evidence.within("karcher", k))) for k in used]
    mean = karcher_mean(torch.stack(planes))
    inside = mean @ direction.vector
    if inside.norm() <= RANK_TOLERANCE:
        raise DirectionError("the direction is at right angles to the mean plane; use another direction or kind='pca'.")
    across = torch.stack([-inside[1], inside[0]])
    first, second = orthonormalise(inside @ mean, across @ mean)
    return torch.stack([first, fix_sign(second)])


PLANES: dict[str, PlaneKind] = {kind.name: kind for kind in (
    PlaneKind("pca", "direction and principal component of the centred candidates (arXiv:2601.19375)", "means",
              lambda candidates, _evidence, direction, _seed: candidate_plane(candidates, direction).basis),
    PlaneKind("leading", "two leading singular vectors of the candidates, uncentred", "means",
              lambda candidates, _evidence, direction, _seed: leading_plane(candidates, direction)),
    PlaneKind("fisher", "difference in means and Fisher direction of one site", "scatter",
              lambda candidates, evidence, direction, _seed: fisher_plane(candidates, evidence, direction)),
    PlaneKind("karcher", "Karcher mean of the planes of all sites", "scatter",
              lambda candidates, evidence, direction, _seed: karcher_plane(candidates, evidence, direction)),
    PlaneKind("random", "drawn uniformly, as a control", "means",
              lambda _candidates, _evidence, direction, seed: random_plane(len(direction.vector), seed)),
)}
