"""What a calibration shows of every site."""

from typing import Any

from torch import Tensor

from lenssteer.capture import ClassMoments
from lenssteer.directions import Candidates, Direction, Evidence, mean_cosine, projections
from lenssteer.site import Site


def site_table(moments: ClassMoments, candidates: Candidates, direction: Direction,
               discriminative: tuple[Site, ...], evidence: Evidence) -> list[dict[str, Any]]:
    """One line a site: length of its difference, agreement with the others, projections, whether it is kept.

    Projections are those of activations divided by their norm, so that sites can be compared.
    """
    cosine = mean_cosine(candidates).tolist()
    plus, minus = projections(moments.positive_unit, moments.negative_unit, direction)
    length = candidates.difference.norm(dim=-1).tolist()
    return [{"site": str(site), "length": length[k], "mean_cosine": cosine[k] if usable else None,
             "positive": plus[k].item(), "negative": minus[k].item(),
             "effect_size": effect_size(evidence, candidates, k) if usable else None,
             "discriminative": site in discriminative, "degenerate": not usable}
            for k, (site, usable) in enumerate(zip(candidates.sites, candidates.usable.tolist(), strict=True))]


def effect_size(evidence: Evidence, candidates: Candidates, k: int) -> float | None:
    """Cohen's d of a site's own direction.

        d = (mean+ - mean-) / sqrt(((n+ - 1) var+ + (n- - 1) var-) / (n+ + n- - 2))

    From the scatter, else from the samples. None where neither was kept, a class has one sample, or nothing varies.
    """
    n, m = evidence.positive.n, evidence.negative.n
    spread = _variances(evidence, candidates.unit[k], k) if min(n, m) > 1 else None
    if spread is None:
        return None
    pooled = (spread[0] * (n - 1) + spread[1] * (m - 1)) / (n + m - 2)
    return (candidates.difference[k].norm() / pooled.sqrt()).item() if pooled > 0 else None


def _variances(evidence: Evidence, vector: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """Of both classes' projections on a direction at the k-th site."""
    if evidence.positive.scatter is not None and evidence.negative.scatter is not None:
        return evidence.positive[k].variance_along(vector), evidence.negative[k].variance_along(vector)
    if evidence.positive_samples is None or evidence.negative_samples is None:
        return None
    sides = (evidence.positive_samples[k], evidence.negative_samples[k])
    plus, minus = ((side.double() @ vector).var() for side in sides)
    return plus, minus
