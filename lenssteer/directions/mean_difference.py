"""Difference in means: one candidate direction a site."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lenssteer.directions.direction import Direction
from lenssteer.errors import DirectionError, ShapeError
from lenssteer.maths import Moments
from lenssteer.site import Site

DEGENERATE_RATIO = 1e-4
"""A difference below this share of the mean activation's norm is rounding noise, not a direction."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Raw class differences at every site.

    Args:
        sites: Where they were read, in network order.
        difference: mean(positive) - mean(negative), one a site, in units of the activation.
        positive: Class means of the positive prompts.
        negative: Class means of the negative prompts.
        usable: False where the difference is degenerate (see `mean_difference`).
    """

    sites: tuple[Site, ...]
    difference: Float64[Tensor, "sites d_model"]
    positive: Float64[Tensor, "sites d_model"]
    negative: Float64[Tensor, "sites d_model"]
    usable: Bool[Tensor, " sites"]

    @property
    def degenerate(self) -> tuple[Site, ...]:
        """Sites without a direction of their own, such as the first norm, where all prompts end in one token."""
        return tuple(site for site, usable in zip(self.sites, self.usable.tolist(), strict=True) if not usable)

    @property
    def unit(self) -> Float64[Tensor, "sites d_model"]:
        """The differences with length one; degenerate ones are zero."""
        length = self.difference.norm(dim=-1, keepdim=True)
        return torch.where(self.usable.unsqueeze(-1), self.difference / length.clamp_min(1e-300), 0.0)

    def index(self, site: Site) -> int:
        """Line of a site.

        Raises:
            DirectionError: when the site was not captured.
        """
        if site not in self.sites:
            raise DirectionError(f"{site} was not captured; there are {self.sites[0]} to {self.sites[-1]}.")
        return self.sites.index(site)

    def direction(self, site: Site) -> Direction:
        """The direction of one site.

        Raises:
            DirectionError: when the site was not captured, or is degenerate there.
        """
        k = self.index(site)
        if not self.usable[k]:
            raise DirectionError(f"both classes have the same mean at {site}, so it has no direction; "
                                 "choose another site.")
        vector = self.unit[k]
        length = self.difference[k].norm().item()
        return Direction(vector, site, length, (self.positive[k] @ vector).item(), (self.negative[k] @ vector).item())


def mean_difference(positive: Moments, negative: Moments, sites: list[Site] | tuple[Site, ...]) -> Candidates:
    """Difference in class means at every site.

        d_k = mean(x+_k) - mean(x-_k)

    A site is degenerate when |d_k| < 1e-4 * mean(|mean(x+_k)|, |mean(x-_k)|).

    Args:
        positive: Moments over a leading axis of sites.
        negative: The same for the other class.
        sites: Their sites, in network order.

    Raises:
        ShapeError: when the moments are not one line a site.
        DirectionError: when every site is degenerate.

    Source: Belrose 2023, "Diff-in-means concept editing"; Arditi et al. 2024, arXiv:2406.11717, section 2.3.
    Departs from the rotation papers' code, which keeps degenerate candidates.
    """
    if positive.mean.shape != negative.mean.shape or positive.mean.shape[:-1] != (len(sites),):
        raise ShapeError(f"expected moments of shape [{len(sites)}, d_model] for both classes, got "
                         f"{list(positive.mean.shape)} and {list(negative.mean.shape)}.")
    difference = positive.mean - negative.mean
    scale = (positive.mean.norm(dim=-1) + negative.mean.norm(dim=-1)) / 2
    usable = difference.norm(dim=-1) >= DEGENERATE_RATIO * scale.clamp_min(1e-300)
    if not usable.any():
        raise DirectionError("both classes have the same mean at every site; "
                             "are the positive and negative prompts the same?")
    return Candidates(tuple(sites), difference, positive.mean, negative.mean, usable)
