"""Null spaces: the directions that some activations hardly use.

Activations H [n, d] have G = H^T H = scatter + n mean mean^T, uncentred. Its eigenvectors of small eigenvalues are the
right singular vectors of H with small singular values, so moments are enough and the cost is in d, not in n.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.maths.moments import Moments

RESOLVED = 1e-7
"""Relative singular values a Gram matrix can tell from zero: it squares them, and rounding leaves about 1e-8."""


def second_moment(moments: Moments) -> Float64[Tensor, "*sites d_model d_model"]:
    """Uncentred sum of outer products: scatter + n mean mean^T.

    Raises:
        ParameterError: when the scatter was not kept.
    """
    if moments.scatter is None:
        raise ParameterError("the scatter was not kept; compute the moments with scatter=True.")
    return moments.scatter + moments.n * moments.mean.unsqueeze(-1) * moments.mean.unsqueeze(-2)


def null_space(
    data: Moments | Float[Tensor, "n d_model"],
    *,
    ratio: float | int | None = None,
    energy: float | int | None = None,
    tolerance: float | int | None = None,
) -> Float64[Tensor, "d_model k"]:
    """Orthonormal directions that the data hardly uses, by one of three rules.

        ratio       the int(d ratio) directions of the smallest singular values
        energy      as many of them as together hold at most that share of sum(singular values^2)
        tolerance   those whose singular value is at most tolerance * the largest

    Args:
        data: Moments of one site with their scatter, or the activations themselves, one a line.
        ratio: Share of the dimensions, between 0 and 1.
        energy: Share of the energy, between 0 and 1.
        tolerance: Relative singular value; from moments at least 1e-7.

    Returns:
        Columns, by growing singular value.

    Raises:
        ParameterError: when not exactly one rule is given, it is out of range or leaves no direction, or
            values are not finite.
        ShapeError: when the moments are of several sites.

    Source: arXiv:2506.07022 (ratio). Departs from the authors' code, whose default rule thresholds the square roots of
    Gram eigenvalues at rounding level, finds none, and then takes a tenth of the dimensions.
    """
    rules = {"ratio": ratio, "energy": energy, "tolerance": tolerance}
    given = {name: value for name, value in rules.items() if value is not None}
    if len(given) != 1:
        got = ", ".join(given) or "none"
        raise ParameterError(f"a null space needs exactly one of ratio, energy and tolerance; got {got}.")
    [(rule, value)] = given.items()
    if not 0 <= value < 1:
        raise ParameterError(f"{rule} must lie in [0, 1), got {value}.")
    if rule == "tolerance" and isinstance(data, Moments) and value < RESOLVED:
        raise ParameterError(f"tolerance {value:g} cannot be resolved from moments, only {RESOLVED:g} and more; "
                             "give the samples themselves, or a larger tolerance.")
    singular, vectors = _spectrum(data)
    k = _count(singular, rule, value)
    if k == 0:
        raise ParameterError(f"{rule}={value:g} leaves no direction in the null space; give a larger one.")
    return vectors[:, :k]


def _spectrum(data: Moments | Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, growing, and the directions they belong to."""
    matrix = second_moment(data) if isinstance(data, Moments) else data.to(torch.float64)
    if matrix.ndim != 2:
        raise ShapeError(f"a null space is that of one site; got {matrix.ndim - 2} leading axes. Pick one: moments[k].")
    if not torch.isfinite(matrix).all():
        raise ParameterError("the activations hold values that are not finite; check what they were captured from.")
    if isinstance(data, Moments):
        values, vectors = torch.linalg.eigh(matrix)
        return values.clamp_min(0).sqrt(), vectors
    n, d_model = matrix.shape
    _, singular, rows = torch.linalg.svd(matrix, full_matrices=n < d_model)
    missing = d_model - len(singular)
    return torch.cat([singular, singular.new_zeros(missing)]).flip(0), rows.flip(0).T


def _count(singular: Tensor, rule: str, value: float | int) -> int:
    if rule == "ratio":
        return int(len(singular) * value)
    if rule == "energy":
        share = (singular**2).cumsum(0) / (singular**2).sum()
        return int((share <= value).sum())
    return int((singular <= value * singular[-1]).sum())
