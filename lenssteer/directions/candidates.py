"""Candidates: one direction a site, whatever found it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lenssteer.directions.direction import Direction
from lenssteer.directions.evidence import Evidence
from lenssteer.errors import DirectionError, ShapeError
from lenssteer.site import Site

DEGENERATE_RATIO = 1e-4
"""A difference below this share of the mean activation's norm is rounding noise, not a direction."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """A direction at every site, scaled to the separation of the classes along it.

    Args:
        sites: Where they were read, in network order.
        difference: The direction, as long as the classes lie apart on it, in units of the activation.
        positive: Centres of the positive class; its means, unless the finder says otherwise.
        negative: Centres of the negative class.
        usable: False where the difference is degenerate: shorter than 1e-4 of the mean norm of the two centres.
        finder: What found them; see `FINDERS`.
    """

    sites: tuple[Site, ...]
    difference: Float64[Tensor, "sites d_model"]
    positive: Float64[Tensor, "sites d_model"]
    negative: Float64[Tensor, "sites d_model"]
    usable: Bool[Tensor, " sites"]
    finder: str = "mean_difference"

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
            raise DirectionError(f"both classes have the same mean at {site}, or along what {self.finder} finds there, "
                                 "so it has no direction; choose another site.")
        vector = self.unit[k]
        length = self.difference[k].norm().item()
        return Direction(vector, site, length, (self.positive[k] @ vector).item(), (self.negative[k] @ vector).item())


def between(
    positive: Float64[Tensor, "sites d_model"],
    negative: Float64[Tensor, "others width"],
    sites: list[Site] | tuple[Site, ...],
    finder: str,
) -> Candidates:
    """Candidates from centre to centre: d_k = positive_k - negative_k.

    Args:
        positive: Centres of the positive class.
        negative: Centres of the other, of the same shape.
        sites: Their sites, in network order.
        finder: What found them.

    Raises:
        ShapeError: when the centres are not one line a site.
        DirectionError: when every site is degenerate.
    """
    if positive.shape != negative.shape or positive.shape[:-1] != (len(sites),):
        raise ShapeError(f"expected moments of shape [{len(sites)}, d_model] for both classes, got "
                         f"{list(positive.shape)} and {list(negative.shape)}.")
    difference = positive - negative
    return _usable(difference, positive, negative, sites, finder, "both classes have the same mean at every site; "
                   "are the positive and negative prompts the same?")


def along(evidence: Evidence, vectors: Float64[Tensor, "sites d_model"], finder: str) -> Candidates:
    """Candidates along given vectors, as long as the class means lie apart on them; zero where a vector is zero.

        d_k = v_k (v_k.(mean(x+_k) - mean(x-_k)))        |v_k| = 1

    So the positive class projects higher whatever the sign of v_k, and adding d_k moves by one class separation.

    Args:
        evidence: Only the means are used.
        vectors: Any length, either sign.
        finder: What found them.

    Raises:
        DirectionError: when every site is degenerate.

    Source: the scale Delta_mu v of arXiv:2604.08169, Eq. 2.
    """
    positive, negative = evidence.positive.mean, evidence.negative.mean
    unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    difference = unit * ((positive - negative) * unit).sum(-1, keepdim=True)
    return _usable(difference, positive, negative, evidence.sites, finder,
                   f"{finder} found no direction on which the class means differ; try mean_difference.")


def _usable(difference: Tensor, positive: Tensor, negative: Tensor, sites: list[Site] | tuple[Site, ...],
            finder: str, refusal: str) -> Candidates:
    scale = (positive.norm(dim=-1) + negative.norm(dim=-1)) / 2
    usable = difference.norm(dim=-1) >= DEGENERATE_RATIO * scale.clamp_min(1e-300)
    if not usable.any():
        raise DirectionError(refusal)
    return Candidates(tuple(sites), difference, positive, negative, usable, finder)
