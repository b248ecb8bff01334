"""Evidence: what direction finders are fitted on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError, ShapeError
from lenssteer.maths import Moments
from lenssteer.maths.components import NOISE_RATIO
from lenssteer.site import Site


@dataclass(frozen=True, eq=False)
class Evidence:
    """Both classes at every site: their moments, and where they were kept the samples themselves.

    Args:
        sites: In network order; the leading axis of all that follows.
        positive: Moments of the positive class.
        negative: Moments of the negative class.
        positive_samples: One activation a prompt.
        negative_samples: The same for the other class; finders that need pairs match the classes by index.

    Raises:
        ShapeError: when moments or samples are not one line a site, or disagree with each other.
        DirectionError: when a mean is not finite.
    """

    sites: tuple[Site, ...]
    positive: Moments
    negative: Moments
    positive_samples: Float[Tensor, "sites n d_model"] | None = None
    negative_samples: Float[Tensor, "sites m d_model"] | None = None

    def __post_init__(self) -> None:
        shape = self.positive.mean.shape
        if shape != self.negative.mean.shape or shape[:-1] != (len(self.sites),):
            raise ShapeError(f"expected moments of shape [{len(self.sites)}, d_model] for both classes, got "
                             f"{list(shape)} and {list(self.negative.mean.shape)}.")
        finite = torch.isfinite(self.positive.mean).all(-1) & torch.isfinite(self.negative.mean).all(-1)
        if not finite.all():
            broken = self.sites[int((~finite).nonzero()[0])]
            raise DirectionError(f"activations at {broken} are not finite; capture them with the model in float32 or "
                                 "bfloat16.")
        if (self.positive_samples is None) != (self.negative_samples is None):
            raise ShapeError("samples of one class only; give those of both, or of none.")
        for samples, moments in ((self.positive_samples, self.positive), (self.negative_samples, self.negative)):
            expected = (len(self.sites), moments.n, shape[-1])
            if samples is not None and tuple(samples.shape) != expected:
                raise ShapeError(f"expected samples of shape {list(expected)}, as their moments count them, got "
                                 f"{list(samples.shape)}.")

    @classmethod
    def of(
        cls,
        sites: list[Site] | tuple[Site, ...],
        positive: Float[Tensor, "sites n d_model"],
        negative: Float[Tensor, "sites m d_model"],
    ) -> "Evidence":
        """Evidence from samples alone."""
        return cls(tuple(sites), Moments.of(positive), Moments.of(negative), positive, negative)

    def need_scatter(self, finder: str) -> tuple[
        Float64[Tensor, "sites d_model d_model"], Float64[Tensor, "sites d_model d_model"]
    ]:
        """The scatter of both classes.

        Raises:
            DirectionError: when it was not kept.
        """
        if self.positive.scatter is None or self.negative.scatter is None:
            raise DirectionError(f"{finder} needs the scatter of both classes, which was not kept; "
                                 "calibrate with scatter=True.")
        return self.positive.scatter, self.negative.scatter

    def spread_at(self, finder: str, k: int) -> tuple[Moments, Moments]:
        """Moments of both classes at the k-th site with their scatter, from the samples where only those were kept.

        Raises:
            DirectionError: when neither was kept.
        """
        if self.positive.scatter is None and self.positive_samples is not None and self.negative_samples is not None:
            return Moments.of(self.positive_samples[k]), Moments.of(self.negative_samples[k])
        self.need_scatter(finder)
        return self.positive[k], self.negative[k]

    def within(self, finder: str, k: int) -> Float64[Tensor, "d_model d_model"]:
        """Scatter of the k-th site within the classes: that of each about its own mean, summed.

        Zero where nothing is left but what rounding makes of equal activations.
        """
        positive, negative = self.need_scatter(finder)
        scatter = positive[k] + negative[k]
        energy = sum(side.n * side.mean[k].square().sum() for side in (self.positive, self.negative))
        return torch.where(scatter.trace() > NOISE_RATIO**2 * energy, scatter, 0.0)

    def total(self, finder: str, k: int) -> Float64[Tensor, "d_model d_model"]:
        """Scatter of the k-th site about the mean of both classes pooled."""
        n, m = self.positive.n, self.negative.n
        apart = self.positive.mean[k] - self.negative.mean[k]
        return self.within(finder, k) + apart.outer(apart) * (n * m / (n + m))

    def need_samples(self, finder: str) -> tuple[Float[Tensor, "sites n d_model"], Float[Tensor, "sites m d_model"]]:
        """The samples of both classes.

        Raises:
            DirectionError: when they were not kept.
        """
        if self.positive_samples is None or self.negative_samples is None:
            raise DirectionError(f"{finder} needs the activations of both classes, which were not kept; "
                                 "calibrate with samples=True.")
        return self.positive_samples, self.negative_samples

    def need_pairs(self, finder: str) -> tuple[Float[Tensor, "sites n d_model"], Float[Tensor, "sites n d_model"]]:
        """The samples of both classes, as many of one as of the other.

        Raises:
            DirectionError: when they were not kept, or their counts differ.
        """
        positive, negative = self.need_samples(finder)
        if positive.shape != negative.shape:
            raise DirectionError(f"{finder} pairs the i-th positive with the i-th negative prompt, but there are "
                                 f"{positive.shape[1]} and {negative.shape[1]}; give as many of one as of the other.")
        return positive, negative
