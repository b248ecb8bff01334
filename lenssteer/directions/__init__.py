"""From moments to directions, planes and sites."""

from lenssteer.directions.direction import Direction, Plane
from lenssteer.directions.mean_difference import Candidates, mean_difference
from lenssteer.directions.selection import (
    RULES,
    candidate_plane,
    discriminative_sites,
    global_direction,
    mean_cosine,
    projections,
)

__all__ = [
    "Candidates",
    "Direction",
    "Plane",
    "RULES",
    "candidate_plane",
    "discriminative_sites",
    "global_direction",
    "mean_cosine",
    "mean_difference",
    "projections",
]
