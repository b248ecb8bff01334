"""Orthonormal pairs, principal components, and one sign rule for both.

A principal component is defined up to its sign, and flipping b2 turns a rotation by 90 degrees into one by 270.
The rule here: the entry of largest magnitude is positive, the first such entry where several tie.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError

SIGN_RULE = "largest-entry-positive"
PARALLEL_TOLERANCE = 1e-6


def fix_sign(vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """The vector or its negative: the one whose entry of largest magnitude is positive.

    >>> fix_sign(torch.tensor([1.0, -2.0]))
    tensor([-1.,  2.])
    """
    magnitude = vector.abs()
    largest = torch.nonzero(magnitude >= magnitude.max() * (1 - 1e-12))[0]
    return vector if vector[largest] >= 0 else -vector


def principal_component(points: Float[Tensor, "n d_model"], *, centred: bool = True) -> Float64[Tensor, " d_model"]:
    """First principal component of points, unit length, sign fixed.

        argmax_v sum_i ((x_i - mean).v)^2,  |v| = 1

    Computed by a full SVD in float64, so the result is exact and does not depend on a random seed.

    Args:
        points: One a line.
        centred: Whether the mean is removed first.

    Raises:
        DirectionError: when the points do not spread.
    """
    wide = points.to(torch.float64)
    centre = wide.mean(0, keepdim=True) if centred else torch.zeros_like(wide[:1])
    spread = wide - centre
    if spread.norm() <= PARALLEL_TOLERANCE * max(wide.norm().item(), 1e-300):
        raise DirectionError(f"{len(points)} points do not spread, so they have no principal component; "
                             "capture at least two sites whose directions differ.")
    return fix_sign(torch.linalg.svd(spread, full_matrices=False).Vh[0])


def orthonormalise(
    first: Float[Tensor, " d_model"], second: Float[Tensor, " d_model"]
) -> Float64[Tensor, "2 d_model"]:
    """Gram-Schmidt on two vectors: b1 along the first, b2 the rest of the second.

    Raises:
        DirectionError: when either is zero, or they are parallel.
    """
    one, two = first.to(torch.float64), second.to(torch.float64)
    if one.norm() == 0 or two.norm() == 0:
        raise DirectionError("a plane needs two vectors that are not zero.")
    b1, two = one / one.norm(), two / two.norm()
    rest = two - (two @ b1) * b1
    if rest.norm() <= PARALLEL_TOLERANCE:
        raise DirectionError("the two vectors are parallel, so they span no plane; choose another second axis.")
    rest = rest / rest.norm()
    rest = rest - (rest @ b1) * b1
    return torch.stack([b1, rest / rest.norm()])


def plane_of_candidates(
    first: Float[Tensor, " d_model"], candidates: Float[Tensor, "n d_model"]
) -> Float64[Tensor, "2 d_model"]:
    """The plane of the rotation papers.

        b1 = first / |first|
        b2 = PC - (PC.b1) b1, unit length, PC = first principal component of the centred unit candidates

    The sign of b2 is fixed after orthogonalisation by the rule of this module.

    Args:
        first: The global direction.
        candidates: Unit candidate directions, one a site.

    Raises:
        DirectionError: when the candidates do not spread, or spread along `first` only.

    Source: Dang & Ngo 2026, arXiv:2601.19375, section 3.2; the authors' code normalises the candidates first.
    Departs from it: exact float64 SVD instead of a randomised one, own sign rule.
    """
    b1, b2 = orthonormalise(first, principal_component(candidates))
    return torch.stack([b1, fix_sign(b2)])


def random_plane(d_model: int, seed: int) -> Float64[Tensor, "2 d_model"]:
    """A plane drawn uniformly, as a control: two standard normal vectors, orthonormalised.

    Raises:
        DirectionError: when d_model is below 2.
    """
    if d_model < 2:
        raise DirectionError("a plane needs d_model of at least 2.")
    draw = torch.randn(2, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return orthonormalise(draw[0], draw[1])
