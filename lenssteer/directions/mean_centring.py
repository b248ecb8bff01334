"""Mean-centring: from what activations are in general to what they are for the concept."""

from lenssteer.directions.candidates import Candidates, between
from lenssteer.directions.evidence import Evidence
from lenssteer.maths import Moments


def mean_centring(evidence: Evidence, background: Moments | None = None) -> Candidates:
    """Mean of the positive class minus the mean of background activations.

        d_k = mean(x+_k) - mean(background_k)

    The background takes the place of the negative class in what is found.

    Args:
        evidence: Only the means are used.
        background: Moments of general text over the same sites; the negative class where none are given, which makes
            it the difference in means.

    Raises:
        ShapeError: when the background has other sites or another width.
        DirectionError: when every site is degenerate.

    Source: Jorgensen et al. 2023, arXiv:2312.03813. Departs from it: one activation a prompt, as captured.
    """
    rest = background or evidence.negative
    return between(evidence.positive.mean, rest.mean, evidence.sites, "mean_centring")
