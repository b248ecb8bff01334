"""The angle between an activation and a direction, set in the plane the two span."""

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import unit
from lenssteer.errors import ParameterError


def set_angle(
    direction: Float[Tensor, "*#rows d_model"], *, degrees: float | int | Float[Tensor, "*#rows"]
) -> LowRankEdit:
    """Turn an activation in span(h, d) until it stands at an angle to the direction; its norm is kept.

        h' = |h| (cos(degrees) d + sin(degrees) p / |p|)        p = h - (d.h) d,  d = direction / |direction|

    Written as h + (|p| cot(degrees) - d.h) d, rescaled to |h|. An activation parallel to the direction (up to rounding)
    spans no plane with it and is left as it is; so is every activation by a zero direction.

    Args:
        direction: Any length, [d_model].
        degrees: Angle to the direction, strictly between 0 and 180; a tensor [rows] gives each row its own.

    Returns:
        A rank-1 LowRankEdit with norm "preserve".

    Raises:
        ParameterError: when an angle is not strictly between 0 and 180.

    Source: rotation in the span of activation and direction, Vu & Nguyen 2025, arXiv:2510.26243, appendix A. Departs
    from it: rank one, and the angle before is not needed.
    """
    read = unit(direction)
    angle = torch.as_tensor(degrees, dtype=torch.float64, device=read.device)
    if angle.ndim > 1 or not bool(((angle > 0) & (angle < 180)).all()):
        raise ParameterError(f"degrees must lie strictly between 0 and 180, one number or one a row; got {degrees}.")
    cotangent = (1 / torch.tan(torch.deg2rad(angle))).to(read).unsqueeze(-1)
    zero = read.new_zeros(1)
    return LowRankEdit(read.unsqueeze(-2), read.unsqueeze(-2), gain=read.new_full((1, 1), -1.0), offset=zero,
                       radial=cotangent, bias=zero, norm="preserve", radius="complement")
