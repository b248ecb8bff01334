"""What every constructor of an edit checks and prepares: unit directions, orthonormal planes, angles."""

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import Norm
from lenssteer.errors import ParameterError, ShapeError
from lenssteer.nearest import unknown

ORTHONORMAL_TOLERANCE = 1e-4


def wide(tensor: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """At least float32: edits are defined on float32 coordinates, and float64 stays float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def unit(direction: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """The direction with length one; a zero direction stays zero, so that its edit is a no-op and never NaN.

    Entries are divided by the largest first, so that no length is too small or too large to be squared.

    Raises:
        ParameterError: when an entry is not finite.
    """
    direction = wide(direction)
    if not torch.isfinite(direction).all():
        raise ParameterError("the direction holds values that are not finite; check what it was computed from.")
    largest = direction.abs().amax(-1, keepdim=True)
    scaled = direction / torch.where(largest > 0, largest, 1)
    return scaled / torch.where(largest > 0, scaled.norm(dim=-1, keepdim=True), 1)


def orthonormal(basis: Float[Tensor, "*#rows two d_model"]) -> Float[Tensor, "*rows two d_model"]:
    """The basis, at least in float32.

    Raises:
        ShapeError: when it is not a pair, or not orthonormal to 1e-4.
    """
    if basis.ndim not in (2, 3) or basis.shape[-2] != 2:
        raise ShapeError(f"basis has shape {list(basis.shape)}; expected [2, d_model] or [rows, 2, d_model].")
    basis = wide(basis)
    error = (basis @ basis.mT - torch.eye(2).to(basis)).abs().max().item()
    if not error <= ORTHONORMAL_TOLERANCE:
        raise ShapeError(f"basis is not orthonormal: its Gram matrix is off by {error:.1e}, allowed is "
                         f"{ORTHONORMAL_TOLERANCE:.0e}. Orthonormalise it in float32, "
                         "for example with lenssteer.maths.orthonormalise.")
    return basis


def radians(degrees: float | int | Float[Tensor, "*#rows"], like: Tensor) -> Float[Tensor, "*rows"]:
    """Degrees to radians in float64, whole turns removed, on the device of `like`.

    Raises:
        ParameterError: when an angle is not finite or not a scalar or one angle a row.
    """
    angle = torch.as_tensor(degrees, dtype=torch.float64, device=like.device)
    if angle.ndim > 1 or not torch.isfinite(angle).all():
        raise ParameterError(f"degrees must be one finite number, or one a row; got {degrees}.")
    return torch.deg2rad(torch.remainder(angle, 360.0))


def amount(value: float | int | Float[Tensor, "*#rows"], name: str, like: Tensor) -> Float[Tensor, "*rows"]:
    """A scalar parameter, or one a row, in the dtype of `like`.

    Raises:
        ParameterError: when it is not finite, or has more than one axis.
    """
    number = (value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)).to(like)
    if number.ndim > 1 or not torch.isfinite(number).all():
        raise ParameterError(f"{name} must be one finite number, or one a row; got {value}.")
    return number


def norm_rule(name: str) -> Norm:
    """The norm rule of that name.

    Raises:
        ParameterError: when there is none.
    """
    for rule in get_args(Norm):
        if rule == name:
            return rule
    raise ParameterError(unknown("norm rule", name, get_args(Norm)))
