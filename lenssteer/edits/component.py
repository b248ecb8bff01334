"""The component of an activation along a direction: scaled, reflected or clamped."""

from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, unit

Scalar = float | int | Float[Tensor, "*#rows"]


def scale(direction: Float[Tensor, "*#rows d_model"], factor: Scalar) -> LowRankEdit:
    """Multiply the component along a direction; the rest is untouched.

        h' = h + (factor - 1) (v.h) v        v = direction / |direction|

    factor 0 ablates, -1 reflects, 1 changes nothing.

    Raises:
        ParameterError: when the factor is not finite.
    """
    read = unit(direction)
    zero = read.new_zeros(1)
    gain = (amount(factor, "factor", read) - 1).unsqueeze(-1).unsqueeze(-1)
    return LowRankEdit(read.unsqueeze(-2), read.unsqueeze(-2), gain=gain, offset=zero, radial=zero, bias=zero)


def reflect(direction: Float[Tensor, "*#rows d_model"]) -> LowRankEdit:
    """Turn the component along a direction round: h' = h - 2 (v.h) v. Its own inverse; norms are preserved."""
    return scale(direction, -1.0)


def clamp(direction: Float[Tensor, "*#rows d_model"], value: Scalar) -> LowRankEdit:
    """Give every activation the same component along a direction.

        h' = h + (value - v.h) v        v = direction / |direction|

    Idempotent.

    Raises:
        ParameterError: when the value is not finite.
    """
    read = unit(direction)
    zero = read.new_zeros(1)
    aim = amount(value, "value", read).unsqueeze(-1)
    gain = read.new_full((1, 1), -1.0)
    return LowRankEdit(read.unsqueeze(-2), read.unsqueeze(-2), gain=gain, offset=aim, radial=zero, bias=zero)
