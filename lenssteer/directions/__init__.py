"""From moments to directions, planes, boundaries and sites."""

from lenssteer.directions.algebra import combine, orthogonalise
from lenssteer.directions.alphasteer import AlphaMap, fit_alphasteer
from lenssteer.directions.boundary import Boundary, logistic_boundary
from lenssteer.directions.candidates import Candidates
from lenssteer.directions.class_pca import class_pca
from lenssteer.directions.direction import Direction, Plane
from lenssteer.directions.evidence import Evidence
from lenssteer.directions.finders import FINDERS, Finder, find_directions, require_finder
from lenssteer.directions.fisher import fisher
from lenssteer.directions.logistic import logistic
from lenssteer.directions.mean_centring import mean_centring
from lenssteer.directions.mean_difference import mean_difference
from lenssteer.directions.pairwise_pca import pairwise_pca
from lenssteer.directions.planes import PLANES, PlaneKind, find_plane
from lenssteer.directions.principal import principal
from lenssteer.directions.robust_mean import robust_mean
from lenssteer.directions.sae import LATENT_RULES, SaeLatents, latent_direction, select_latents
from lenssteer.directions.selection import (
    RULES,
    candidate_plane,
    discriminative_sites,
    global_direction,
    mean_cosine,
    projections,
)

__all__ = [
    "AlphaMap",
    "Boundary",
    "Candidates",
    "Direction",
    "Evidence",
    "FINDERS",
    "Finder",
    "LATENT_RULES",
    "PLANES",
    "Plane",
    "PlaneKind",
    "RULES",
    "SaeLatents",
    "candidate_plane",
    "class_pca",
    "combine",
    "discriminative_sites",
    "find_directions",
    "find_plane",
    "fisher",
    "fit_alphasteer",
    "global_direction",
    "latent_direction",
    "logistic",
    "logistic_boundary",
    "mean_centring",
    "mean_cosine",
    "mean_difference",
    "orthogonalise",
    "pairwise_pca",
    "principal",
    "projections",
    "require_finder",
    "robust_mean",
    "select_latents",
]
