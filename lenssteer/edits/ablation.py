"""Ablation: take a direction out of an activation, to zero or to a centre."""

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, unit


def ablate(
    direction: Float[Tensor, "*rows d_model"],
    center: float | int | Float[Tensor, "*any"] | None = None,
) -> LowRankEdit:
    """Remove the component of an activation along a direction.

        h' = h - (r.h - r.m) r        r = direction / |direction|,  m = center

    Without a centre the component becomes zero; with one it becomes the centre's. The map is idempotent, and a zero
    direction leaves every activation as it is.

    Args:
        direction: Any length, [d_model] or [rows, d_model].
        center: The activation [d_model] (or one a row) whose component is kept, or that component itself as a number.

    Returns:
        A rank-1 LowRankEdit.

    Raises:
        ShapeError: when `center` is a vector of another d_model.
        ParameterError: when a value is not finite.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 2.4 (to zero); Marshall et al. 2024, arXiv:2411.09003
    (to a centre, affine). Departs from the authors' code: no epsilon in the normalisation.
    """
    read = unit(direction)
    square, flat = read.new_full((1, 1), -1.0), read.new_zeros(1)
    kept = _component(read, center).unsqueeze(-1)
    return LowRankEdit(read.unsqueeze(-2), read.unsqueeze(-2), gain=square, offset=flat, radial=flat, bias=-kept)


def _component(read: Tensor, center: float | Tensor | None) -> Tensor:
    if isinstance(center, Tensor) and center.ndim and center.shape[-1] == read.shape[-1]:
        return (read * center.to(read)).sum(-1)
    component = amount(0.0 if center is None else center, "center", read)
    return torch.where((read != 0).any(-1), component, 0)
