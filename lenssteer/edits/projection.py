"""Steering to a target projection (StTP) or to the mirror image of one (StMP), below a boundary only."""

from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, unit

Scalar = float | int | Float[Tensor, "*#rows"]


def steer_to_target(direction: Float[Tensor, "*#rows d_model"], *, boundary: Scalar, target: Scalar,
                    threshold: Scalar | None = None) -> LowRankEdit:
    """Bring the projection of an activation to a target where it lies below the boundary.

        h' = h + (target - rho) v   where rho = v.h < threshold, else h        v = direction / |direction|

    The rest of the activation is untouched, and the map is idempotent when target >= threshold.

    Args:
        direction: Normal of a probe, any length, [d_model]; the aligned class lies above the boundary.
        boundary: Projection at which the probe is undecided.
        target: Projection that edited activations get.
        threshold: Where edits begin, in place of the boundary; strict.

    Returns:
        A rank-1 LowRankEdit.

    Raises:
        ParameterError: when a number is not finite.

    Source: arXiv:2604.08169, Eq. 4; its first version gates by a threshold of the aligned class. No code is published.
    """
    read = unit(direction)
    middle = amount(boundary, "boundary", read)
    return _gated(read, read.new_full((1, 1), -1.0), amount(target, "target", read),
                  middle if threshold is None else amount(threshold, "threshold", read))


def steer_to_mirror(direction: Float[Tensor, "*#rows d_model"], *, boundary: Scalar, strength: Scalar = 1.0,
                    threshold: Scalar | None = None) -> LowRankEdit:
    """Reflect an activation at the boundary where it lies below it.

        h' = h + 2 strength (boundary - rho) v   where rho = v.h < threshold, else h        v = direction / |direction|

    Strength 1 is the mirror image, 0.5 lands on the boundary. Idempotent for strength >= 0.5 when the threshold is the
    boundary.

    Args:
        direction: Normal of a probe, any length, [d_model].
        boundary: Projection at which the probe is undecided.
        strength: 0 changes nothing; a tensor [rows] gives each row its own.
        threshold: Where edits begin, in place of the boundary; strict.

    Returns:
        A rank-1 LowRankEdit.

    Raises:
        ParameterError: when a number is not finite.

    Source: arXiv:2604.08169, Eq. 5. No code is published.
    """
    read = unit(direction)
    twice = 2 * amount(strength, "strength", read)
    middle = amount(boundary, "boundary", read)
    gain = -twice.unsqueeze(-1).unsqueeze(-1)
    return _gated(read, gain, twice * middle, middle if threshold is None else amount(threshold, "threshold", read))


def _gated(read: Tensor, gain: Tensor, offset: Tensor, threshold: Tensor) -> LowRankEdit:
    zero = read.new_zeros(1)
    return LowRankEdit(read.unsqueeze(-2), read.unsqueeze(-2), gain=gain, offset=offset.unsqueeze(-1), radial=zero,
                       bias=zero, gate=read.new_full((1, 1), -1.0), threshold=threshold.unsqueeze(-1))
