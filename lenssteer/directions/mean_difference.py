"""Difference in means: one candidate direction a site."""

from lenssteer.directions.candidates import Candidates, between
from lenssteer.maths import Moments
from lenssteer.site import Site


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
    return between(positive.mean, negative.mean, sites, "mean_difference")
