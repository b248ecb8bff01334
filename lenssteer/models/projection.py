"""Projection of weights: what writes to the residual stream no longer writes along a direction."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import DirectionError


def without(
    weight: Float[Tensor, "*shape"], direction: Float[Tensor, " d_model"], axis: int
) -> Float[Tensor, "*shape"]:
    """A weight that no longer writes along a direction.

        W' = W - r (r^T W)        r = direction / |direction|

    Args:
        weight: Any shape; computed in at least float32, returned in its own dtype.
        direction: Any length.
        axis: The axis of the weight that is the residual stream.

    Raises:
        DirectionError: when the direction is zero or not finite.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 4.1, Eq. 5.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    r = checked(direction).to(weight.device, wide)
    lines = weight.detach().to(wide).movedim(axis, -1)
    return (lines - (lines @ r).unsqueeze(-1) * r).movedim(-1, axis).to(weight.dtype).contiguous()


def checked(direction: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """The direction with length one, in float64.

    Raises:
        DirectionError: when it is zero or not finite.
    """
    wide = direction.detach().double().cpu()
    length = wide.norm().item()
    if not 0 < length < math.inf:
        raise DirectionError(f"the direction has length {length}; weights can only be made orthogonal to one "
                             "that is finite and not zero.")
    return wide / length
