"""AlphaSteer's learned map, from moments: fitted to read 1 on malicious activations and 0 on benign ones."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.maths import Moments, null_space, second_moment
from lenssteer.site import Site

DEFAULT_RATIO = 0.6


@dataclass(frozen=True, eq=False)
class AlphaMap:
    """The rank-one map h -> (reader.h) writer of one site.

    Args:
        reader: a, [d_model].
        writer: r, the refusal vector at the same site, [d_model].
        site: Where it was fitted and is to be applied.
        n_null: Dimensions of the null space it reads.
        rule: How the null space was chosen, for example "ratio=0.6".
    """

    reader: Float64[Tensor, " d_model"]
    writer: Float64[Tensor, " d_model"]
    site: Site
    n_null: int
    rule: str

    def coordinates(self, data: Moments | Float[Tensor, "n d_model"]) -> tuple[float, float]:
        """Mean and standard deviation (n - 1) of the coordinate a.h over activations, or over what moments describe.

        Raises:
            ParameterError: when there is one activation only, or the scatter was not kept.
        """
        reader = self.reader
        if not isinstance(data, Moments):
            data, reader = Moments.of(data.double() @ reader.unsqueeze(-1)), reader.new_ones(1)
        variance = data.variance_along(reader).clamp_min(0)
        return (data.mean @ reader).item(), variance.sqrt().item()


def fit_alphasteer(
    benign: Moments,
    malicious: Moments,
    refusal: Float[Tensor, " d_model"],
    site: Site,
    *,
    ratio: float | int | None = None,
    energy: float | int | None = None,
    tolerance: float | int | None = None,
    ridge: float | int = 10.0,
) -> AlphaMap:
    """Fit the map that writes the refusal vector on malicious activations and almost nothing on benign ones.

        Q = null space of the benign activations, [d_model, k]
        a = Q (Q^T M Q + ridge I)^-1 Q^T s        M = sum h h^T,  s = sum h   over malicious activations

    This is min over D of |D P H_m - r 1^T|^2 + ridge |D P|^2 with P = Q Q^T, whose solution D P is r a^T: of rank one.

    Args:
        benign: Moments of one site with their scatter.
        malicious: The same of the malicious class.
        refusal: r, raw, read at the same site: mean of refused minus mean of answered prompts.
        site: The site.
        ratio: Share of dimensions in the null space; 0.6 where no rule is given.
        energy: In place of ratio; see `maths.null_space`.
        tolerance: In place of ratio; see `maths.null_space`.
        ridge: Weight of the penalty.

    Raises:
        ParameterError: when the scatter was not kept, several rules are given, or ridge is negative or not finite.
        ShapeError: when moments and refusal vector are not of one site and width.
        DirectionError: when no malicious activation reaches into the null space.

    Source: arXiv:2506.07022. Departs from the authors' code: two vectors in place of a matrix, no
    pseudo-inverse, and the refusal vector is read where it is written.
    """
    if not 0 <= ridge < math.inf:
        raise ParameterError(f"ridge must be zero or positive and finite, got {ridge}.")
    shapes = {tuple(t.shape) for t in (benign.mean, malicious.mean, refusal)}
    if len(shapes) > 1:
        raise ShapeError(f"benign, malicious and refusal must be of one site and one width; got {sorted(shapes)}.")
    rules = {"ratio": ratio, "energy": energy, "tolerance": tolerance}
    given = {name: value for name, value in rules.items() if value is not None} or {"ratio": DEFAULT_RATIO}
    basis = null_space(benign, **given)
    inside = basis.T @ second_moment(malicious) @ basis + ridge * torch.eye(basis.shape[1]).to(basis)
    summed = basis.T @ (malicious.n * malicious.mean)
    if not summed.norm() > 1e-12 * malicious.n * malicious.mean.norm():
        raise DirectionError(f"malicious activations do not reach into the null space at {site}; "
                             "take a larger null space, or another site.")
    reader = basis @ torch.linalg.lstsq(inside, summed.unsqueeze(-1)).solution[:, 0]
    [(rule, value)] = given.items()
    return AlphaMap(reader, refusal.double(), site, basis.shape[1], f"{rule}={value:g}")
