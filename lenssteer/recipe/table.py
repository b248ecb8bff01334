"""What a calibration shows of every site."""

from typing import Any

from lenssteer.capture import ClassMoments
from lenssteer.directions import Candidates, Direction, mean_cosine, projections
from lenssteer.site import Site


def site_table(moments: ClassMoments, candidates: Candidates, direction: Direction,
               discriminative: tuple[Site, ...]) -> list[dict[str, Any]]:
    """One line a site: length of its difference, agreement with the others, projections, whether it is kept.

    Projections are those of activations divided by their norm, so that sites can be compared.
    """
    cosine = mean_cosine(candidates).tolist()
    plus, minus = projections(moments.positive_unit, moments.negative_unit, direction)
    length = candidates.difference.norm(dim=-1).tolist()
    return [{"site": str(site), "length": length[k], "mean_cosine": cosine[k] if usable else None,
             "positive": plus[k].item(), "negative": minus[k].item(),
             "effect_size": effect_size(moments, candidates, k) if usable else None,
             "discriminative": site in discriminative, "degenerate": not usable}
            for k, (site, usable) in enumerate(zip(candidates.sites, candidates.usable.tolist(), strict=True))]


def effect_size(moments: ClassMoments, candidates: Candidates, k: int) -> float | None:
    """Cohen's d of a site's own direction.

        d = (mean+ - mean-) / sqrt(((n+ - 1) var+ + (n- - 1) var-) / (n+ + n- - 2))

    None where the scatter was not kept, a class has one sample, or nothing varies.
    """
    positive, negative = moments.positive[k], moments.negative[k]
    if positive.scatter is None or min(positive.n, negative.n) < 2:
        return None
    vector = candidates.unit[k]
    pooled = (positive.variance_along(vector) * (positive.n - 1) + negative.variance_along(vector)
              * (negative.n - 1)) / (positive.n + negative.n - 2)
    return (candidates.difference[k].norm() / pooled.sqrt()).item() if pooled > 0 else None
