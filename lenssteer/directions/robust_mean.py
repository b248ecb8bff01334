"""Difference of robust class centres."""

import torch

from lenssteer.directions.candidates import Candidates, between
from lenssteer.directions.evidence import Evidence
from lenssteer.maths import geometric_median


def robust_mean(evidence: Evidence) -> Candidates:
    """Difference of the classes' geometric medians at every site.

        d_k = median(x+_k) - median(x-_k)

    The medians take the place of the class means in what is found, so outliers bend neither direction nor length.

    Args:
        evidence: Samples; counts may differ.

    Raises:
        DirectionError: when samples were not kept, a median does not converge, or every site is degenerate.

    Source: the geometric median of Weiszfeld 1937 and Vardi & Zhang 2000, in place of the means of arXiv:2406.11717.
    """
    centres = [torch.stack([geometric_median(site) for site in side]) for side in evidence.need_samples("robust_mean")]
    return between(centres[0], centres[1], evidence.sites, "robust_mean")
