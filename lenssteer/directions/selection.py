"""Choosing among sites: the global direction, and the sites where it tells the classes apart by sign."""

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.directions.candidates import Candidates
from lenssteer.directions.direction import Direction, Plane
from lenssteer.errors import DirectionError, ParameterError
from lenssteer.maths import Moments, plane_of_candidates
from lenssteer.site import Site

RULES = ("means", "unit_means")


def mean_cosine(candidates: Candidates) -> Float64[Tensor, " sites"]:
    """Mean cosine of each usable candidate with all usable candidates, itself included; -inf for degenerate ones.

    Source: Dang & Ngo 2026, arXiv:2601.19375, section 3.1, and the authors' code, which includes the candidate itself.
    Departs from it: degenerate candidates are left out.
    """
    unit = candidates.unit
    score = unit @ unit.T
    score = score.sum(-1) / candidates.usable.sum()
    return torch.where(candidates.usable, score, -torch.inf)


def global_direction(candidates: Candidates) -> Direction:
    """The candidate that agrees best with all others: the highest mean cosine, the earliest site where two tie."""
    return candidates.direction(candidates.sites[int(mean_cosine(candidates).argmax())])


def candidate_plane(candidates: Candidates, direction: Direction) -> Plane:
    """The plane of the global direction and the principal component of the usable unit candidates.

    Raises:
        DirectionError: when fewer than two candidates differ.
    """
    unit = candidates.unit[candidates.usable]
    if len(unit) < 2:
        raise DirectionError(f"only {len(unit)} site has a direction; a plane needs two. Capture more sites.")
    return Plane(plane_of_candidates(direction.vector, unit), direction.site)


def projections(
    positive: Moments, negative: Moments, direction: Direction
) -> tuple[Float64[Tensor, " sites"], Float64[Tensor, " sites"]]:
    """Mean projection of each class on a direction, at every site."""
    return positive.mean @ direction.vector, negative.mean @ direction.vector


def discriminative_sites(
    positive: Moments, negative: Moments, direction: Direction, sites: tuple[Site, ...], *, rule: str
) -> tuple[Site, ...]:
    """The sites where the class means project on the direction with opposite signs.

        keep site k  iff  (mean(x+_k).b1) (mean(x-_k).b1) < 0

    Args:
        positive: Moments over sites: of raw activations for rule "means", of activations divided by their own
            norm for rule "unit_means".
        negative: The same for the other class.
        direction: The global direction b1.
        sites: The sites, in network order.
        rule: "means" judges every site by itself (the paper); "unit_means" keeps a layer only when all of its
            sites qualify (the authors' code).

    Raises:
        ParameterError: when the rule is unknown.

    Source: Dang & Ngo 2026, arXiv:2601.19375, Eq. 9; "unit_means" as in the authors' code.
    """
    if rule not in RULES:
        raise ParameterError(f"unknown rule {rule!r}; expected 'means' or 'unit_means'.")
    plus, minus = projections(positive, negative, direction)
    opposite = dict(zip(sites, (plus * minus < 0).tolist(), strict=True))
    if rule == "means":
        return tuple(site for site in sites if opposite[site])
    refused = {site.layer for site in sites if not opposite[site]}
    return tuple(site for site in sites if site.layer not in refused)
