"""The boundary of a linear probe, with what steering to a target or a mirror image needs of both classes."""

import re
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.maths import logistic_probe
from lenssteer.site import Site

NUMBER = r"(\d+(?:\.\d+)?)"


@dataclass(frozen=True, eq=False)
class Boundary:
    """A unit direction, the point on it where a probe is undecided, and both classes' projections on it.

    Args:
        vector: Unit length; the aligned class lies above the boundary.
        site: Where the samples were read.
        boundary: m: the probe's logit is zero where an activation projects to m.
        positive_projections: Of the aligned class, ascending.
        negative_projections: Of the other class, ascending.
    """

    vector: Float64[Tensor, " d_model"]
    site: Site
    boundary: float
    positive_projections: Float64[Tensor, " n"]
    negative_projections: Float64[Tensor, " m"]

    @property
    def positive(self) -> float:
        """mu+: mean projection of the aligned class."""
        return self.positive_projections.mean().item()

    @property
    def negative(self) -> float:
        """mu-: mean projection of the other class."""
        return self.negative_projections.mean().item()

    @property
    def spread(self) -> float:
        """sigma+: standard deviation of the aligned class's projections, with n - 1 in its denominator.

        Raises:
            DirectionError: when there is only one.
        """
        if len(self.positive_projections) < 2:
            raise DirectionError("a spread needs at least two samples of the aligned class; got one.")
        return self.positive_projections.std().item()

    @property
    def separation(self) -> float:
        """mu+ - mu-."""
        return self.positive - self.negative

    def target(self, alpha: float | int) -> float:
        """mu+ + alpha sigma+.

        Source: arXiv:2604.08169, Eq. 4.
        """
        return self.positive + alpha * self.spread

    def threshold(self, rule: str = "boundary") -> float:
        """The projection below which a token is to be edited.

        Args:
            rule: "boundary" is m; "percentile(5)" the 5th percentile of the aligned class, linearly interpolated;
                "mean-2sd" its mean minus two spreads. Any number may stand in their place.

        Raises:
            ParameterError: when the rule cannot be read.
        """
        if rule == "boundary":
            return self.boundary
        if (given := re.fullmatch(rf"percentile\({NUMBER}\)", rule)) and float(given[1]) <= 100:
            return torch.quantile(self.positive_projections, float(given[1]) / 100).item()
        if given := re.fullmatch(rf"mean-{NUMBER}sd", rule):
            return self.target(-float(given[1]))
        raise ParameterError(f"unknown threshold {rule!r}; expected 'boundary', 'percentile(5)' with 0 to 100, "
                             "or 'mean-2sd'.")

    def flipped(self) -> "Boundary":
        """The same boundary seen from the other class, which becomes the aligned one: v -> -v, m -> -m."""
        return replace(self, vector=-self.vector, boundary=-self.boundary,
                       positive_projections=-self.negative_projections.flip(0),
                       negative_projections=-self.positive_projections.flip(0))

    def accuracy(self, positive: Float[Tensor, "n d_model"], negative: Float[Tensor, "m d_model"]) -> float:
        """Share of samples on their class's side; a sample on the boundary counts as negative.

        Args:
            positive: Samples of the aligned class.
            negative: Samples of the other.
        """
        right = (positive.double() @ self.vector > self.boundary).sum() + (
            negative.double() @ self.vector <= self.boundary).sum()
        return right.item() / (len(positive) + len(negative))


def logistic_boundary(
    positive: Float[Tensor, "n d_model"],
    negative: Float[Tensor, "m d_model"],
    site: Site,
    *,
    direction: Float[Tensor, " width"] | None = None,
) -> Boundary:
    """The boundary of a logistic regression, C = 1, features not standardised.

        v = w / |w|        m = -b / |w|

    Args:
        positive: Samples of the aligned class.
        negative: Samples of the other.
        site: Where they were read.
        direction: Taken in place of w, with m midway between the class means on it; for random controls.

    Raises:
        DirectionError: when the samples determine no probe, or the direction is zero.
        ShapeError: when the direction has another width.

    Source: arXiv:2604.08169, Eq. 1-2; its rescaling of w by the separation leaves m as it is. The ddof of sigma+ is not
    stated there; here it is 1.
    """
    if direction is not None and direction.shape != positive.shape[1:]:
        raise ShapeError(f"the direction has shape {list(direction.shape)}; expected {list(positive.shape[1:])}.")
    normal, intercept = logistic_probe(positive, negative) if direction is None else (direction.double(), None)
    length = normal.norm()
    if length == 0:
        raise DirectionError(f"the direction is zero at {site}, so it has no boundary; choose another site.")
    vector = normal / length
    plus, minus = ((side.double() @ vector).sort().values for side in (positive, negative))
    middle = (plus.mean() + minus.mean()).item() / 2
    return Boundary(vector, site, middle if intercept is None else -intercept / length.item(), plus, minus)
