"""Sums of directions, and what is left of one beside others."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.directions.direction import Direction
from lenssteer.errors import DirectionError, ParameterError, ShapeError

NOTHING_LEFT = 1e-6
"""A sum or a rest below this share of what went in is rounding noise."""


def combine(directions: Sequence[Direction], weights: Sequence[float | int]) -> Direction:
    """Weighted sum of steering vectors of one site.

        raw = sum_i w_i raw_i

    Args:
        directions: At one site. Class projections are summed alike, which is exact for directions of one contrast.
        weights: One each; negative ones subtract.

    Raises:
        ParameterError: when there is nothing to sum, or not one finite weight each.
        DirectionError: when the sites differ, or nothing is left.
        ShapeError: when the widths differ.
    """
    if not directions or len(directions) != len(weights):
        raise ParameterError(f"expected one weight a direction and at least one; got {len(directions)} directions and "
                             f"{len(weights)} weights.")
    amounts = torch.tensor(weights, dtype=torch.float64) * torch.tensor(
        [each.length for each in directions], dtype=torch.float64)
    if not torch.isfinite(amounts).all():
        raise ParameterError(f"weights must be finite numbers; got {list(weights)}.")
    return _sum(directions, amounts, size=amounts.abs().sum().item())


def orthogonalise(direction: Direction, against: Sequence[Direction]) -> Direction:
    """What is left of a direction beside others of its site, as long as its steering vector is there.

        v' = v - proj_{span(against)} v        raw' = |raw| v'

    Args:
        direction: What to keep.
        against: What to remove; they need not be orthogonal to each other.

    Raises:
        DirectionError: when the sites differ, or nothing is left.
        ShapeError: when the widths differ.

    Source: Gram-Schmidt, by least squares, so that nearly parallel directions cost no accuracy.
    """
    if not against:
        return direction
    _same_site([direction, *against])
    others = torch.stack([each.vector for each in against])
    weights = torch.linalg.lstsq(others.T, direction.vector.unsqueeze(-1), driver="gelsd").solution.squeeze(-1)
    amounts = torch.cat([torch.ones(1, dtype=torch.float64), -weights])
    rest = _sum([direction, *against], amounts, size=1.0)
    return replace(rest, length=rest.length * direction.length)


def _sum(directions: Sequence[Direction], amounts: Float64[Tensor, " n"], size: float) -> Direction:
    """The direction of sum_i amount_i v_i, which is nothing where it is short beside `size`."""
    _same_site(directions)
    total = amounts @ torch.stack([each.vector for each in directions])
    length = total.norm().item()
    if length <= NOTHING_LEFT * size:
        raise DirectionError(f"nothing is left of {len(directions)} directions at {directions[0].site}: they cancel; "
                             "choose other directions or weights.")
    positive, negative = (float(amounts @ torch.tensor(side, dtype=torch.float64)) / length for side in (
        [each.positive for each in directions], [each.negative for each in directions]))
    return Direction(total / length, directions[0].site, length, positive, negative)


def _same_site(directions: Sequence[Direction]) -> None:
    first = directions[0]
    for other in directions[1:]:
        if other.site != first.site:
            raise DirectionError(f"directions of {first.site} and {other.site} do not add; read both at one site.")
        if other.vector.shape != first.vector.shape:
            raise ShapeError(f"directions of width {len(first.vector)} and {len(other.vector)} do not add.")
