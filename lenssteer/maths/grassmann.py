"""Planes as points: geodesics and means on the Grassmann manifold, with orthonormal rows as bases.

Angles between two planes are the principal angles, the distance is the root of their summed squares. Bases of the
same plane give the same point; every function here depends on the planes only, up to the basis of what it returns.

Source: Edelman, Arias & Smith 1998, SIAM J. Matrix Anal. Appl. 20(2), section 2.5; the logarithm as in Bendokat,
Zimmermann & Absil 2020, arXiv:2011.13699, Algorithm 5.3.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.errors import DirectionError

TOLERANCE, MOST_STEPS = 1e-10, 2_000


def grassmann_log(
    base: Float64[Tensor, "rank d_model"], planes: Float64[Tensor, "*n rank d_model"]
) -> Float64[Tensor, "*n rank d_model"]:
    """Tangents at `base` whose geodesics reach the planes at time one; their Frobenius norm is the distance.

        base Y^T = Q S R^T,   Y' = Q R^T Y,   Y' (I - base^T base) = U s V^T,   log = U atan2(s, S) V^T

    Args:
        base: Orthonormal rows.
        planes: Orthonormal rows each.
    """
    left, cosines, right = torch.linalg.svd(base @ planes.mT)
    aligned = left @ right @ planes
    across, sines, along = torch.linalg.svd(aligned - (aligned @ base.T) @ base, full_matrices=False)
    angles = torch.atan2(sines, cosines.flip(-1))
    return (across * angles.unsqueeze(-2)) @ along


def grassmann_exp(
    base: Float64[Tensor, "rank d_model"], tangent: Float64[Tensor, "rank d_model"]
) -> Float64[Tensor, "rank d_model"]:
    """The plane that the geodesic from `base` along a tangent reaches at time one.

        tangent = U t V^T,   exp = U (cos(t) U^T base + sin(t) V^T)

    Args:
        base: Orthonormal rows.
        tangent: Rows orthogonal to those of `base`.
    """
    across, angles, along = torch.linalg.svd(tangent, full_matrices=False)
    reached = across @ (angles.cos().unsqueeze(-1) * (across.T @ base) + angles.sin().unsqueeze(-1) * along)
    return torch.linalg.qr(reached.T).Q.T


def karcher_mean(planes: Float64[Tensor, "n rank d_model"]) -> Float64[Tensor, "rank d_model"]:
    """The plane with the least summed squared distance to all planes.

        mean <- exp_mean(1/n sum_i log_mean(plane_i))       until the step is below 1e-10

    Starts at the leading right singular vectors of all bases, which minimise the summed squared sines. Steps of this
    length never overshoot, as the manifold is nowhere negatively curved.

    Args:
        planes: Orthonormal rows each.

    Raises:
        DirectionError: when it does not converge, as with planes at right angles, whose mean is not unique.
    """
    rank = planes.shape[1]
    span = torch.linalg.svd(planes.flatten(0, 1), full_matrices=False).Vh
    within = planes @ span.T
    mean = torch.eye(rank, len(span), dtype=planes.dtype)
    for _ in range(MOST_STEPS):
        step = grassmann_log(mean, within).mean(0)
        mean = grassmann_exp(mean, step)
        if step.norm() < TOLERANCE:
            return mean @ span
    raise DirectionError(f"the mean of {len(planes)} planes did not converge in {MOST_STEPS} steps, so they have no "
                         "clear common plane; use kind='pca'.")
