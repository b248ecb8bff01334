"""Rotations in a plane of activation space: by an angle (Selective) or to an angle (Angular).

Degrees run counter-clockwise from b1 towards b2. Both keep the norm of every activation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, orthonormal, radians


def rotate_by(
    basis: Float[Tensor, "*#rows two d_model"], *, degrees: float | int | Float[Tensor, "*#rows"]
) -> LowRankEdit:
    """Rotate the in-plane part of an activation by a fixed angle.

        c' = R(degrees) c        c = B h

    Norms are preserved, degrees=0 is the identity, and rotations in one plane add up.

    Args:
        basis: Orthonormal pair (b1, b2) fitted at the site it will edit, [2, d_model].
        degrees: Angle from b1 towards b2, in degrees; a tensor [rows] steers each row by its own.

    Returns:
        A rank-2 LowRankEdit.

    Raises:
        ShapeError: when `basis` is not orthonormal to 1e-4.
        ParameterError: when an angle is not finite.

    Source: Dang & Ngo 2026, arXiv:2601.19375, Eq. 6 (also Vu & Nguyen 2025, arXiv:2510.26243, Eq. 1).
    Departs from the authors' code: rank-2 form and float32 coordinates instead of a dense matrix in model dtype.
    """
    basis = orthonormal(basis)
    angle = radians(degrees, basis)
    shrink = -2 * torch.sin(angle / 2) ** 2
    gain = torch.stack([torch.stack([shrink, -torch.sin(angle)], -1), torch.stack([torch.sin(angle), shrink], -1)], -2)
    zero = basis.new_zeros(2)
    return LowRankEdit(read=basis, write=basis, gain=gain.to(basis), offset=zero, radial=zero, bias=zero)


def rotate_to(
    basis: Float[Tensor, "*#rows two d_model"],
    *,
    degrees: float | int | Float[Tensor, "*#rows"],
    adaptive: bool = False,
    threshold: float | int | Float[Tensor, "*#rows"] = 0.0,
) -> LowRankEdit:
    """Turn the in-plane part of an activation to a fixed angle, keeping its length.

        c' = |c| (cos degrees, sin degrees)        c = B h
        adaptive: only where c1 > threshold; every other activation is left exactly as it is

    Norms are preserved and the map is idempotent where its gate is open. Unlike `rotate_by` it forgets the in-plane
    phase, and degrees=0 is not the identity.

    Args:
        basis: Orthonormal pair (b1, b2), [2, d_model].
        degrees: Target angle from b1 towards b2, in degrees; a tensor [rows] gives each row its own.
        adaptive: Whether to edit only activations that project on b1 above `threshold` (strictly).
        threshold: In units of the activation; read only when adaptive.

    Returns:
        A rank-2 LowRankEdit.

    Raises:
        ShapeError: when `basis` is not orthonormal to 1e-4.
        ParameterError: when an angle or the threshold is not finite.

    Source: Vu & Nguyen 2025, arXiv:2510.26243, Eq. 2 (standard) and Eq. 3 (adaptive).
    Departs from the authors' code: rank-2 form; the basis is checked rather than re-orthonormalised.
    """
    basis = orthonormal(basis)
    angle = radians(degrees, basis)
    radial = torch.stack([torch.cos(angle), torch.sin(angle)], -1).to(basis)
    zero = basis.new_zeros(2)
    gate = basis.new_tensor([[1.0, 0.0], [1.0, 0.0]]) if adaptive else None
    level = amount(threshold, "threshold", basis)
    bound = torch.stack([level, torch.zeros_like(level)], -1) if adaptive else None
    gain = -torch.eye(2).to(basis)
    return LowRankEdit(basis, basis, gain, offset=zero, radial=radial, bias=zero, gate=gate, threshold=bound)
