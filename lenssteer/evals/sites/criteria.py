"""Criteria for sites: each gives one score a site, higher is better, None where it rules a site out.

The scans look at the first token only. They favour late sites, whose edits reach the logits directly, and say nothing
of the answer that follows: on the demo model they pick the last layer, where addition answers nothing, and on the
refusal organism a layer whose answers open otherwise and refuse all the same. Look at the table before using them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lenssteer.directions import mean_cosine, projections
from lenssteer.evals.sites.ground import Ground
from lenssteer.recipe.refusal_metric import refusal_score
from lenssteer.recipe.refusal_scores import divergence, too_deep
from lenssteer.site import Site
from lenssteer.steering import Steerer

Scores = dict[Site, float | None]
MAX_KL = 0.1


@dataclass(frozen=True)
class Criterion:
    """A way of scoring sites.

    Args:
        name: As users write it.
        source: Where it comes from.
        passes: Passes over the held-out prompts it costs, at most.
        score: From the ground to a score a site.
    """

    name: str
    source: str
    passes: str
    score: Callable[[Ground], Scores]


def discriminative(ground: Ground) -> Scores:
    """Minus the product of the class projections on the global direction; None where their signs agree."""
    calibration = ground.calibration
    plus, minus = projections(calibration.moments.positive_unit, calibration.moments.negative_unit,
                              calibration.direction)
    product = dict(zip(calibration.sites, (plus * minus).tolist(), strict=True))
    return {site: -product[site] if site in calibration.discriminative else None for site in calibration.sites}


def agreement(ground: Ground) -> Scores:
    """Mean cosine of a site's direction with those of all sites."""
    scores = mean_cosine(ground.calibration.candidates).tolist()
    return {site: score for site, score in zip(ground.calibration.sites, scores, strict=True) if site in ground.usable}


def probe_accuracy(ground: Ground) -> Scores:
    """Balanced accuracy on held-out prompts of the midpoint between the calibration's class projections."""
    scores: Scores = {}
    for site in ground.usable:
        direction = ground.calibration.candidates.direction(site)
        plus, minus = ground.projections(site)
        middle = (direction.positive + direction.negative) / 2
        scores[site] = ((plus > middle).double().mean() + (minus <= middle).double().mean()).item() / 2
    return scores


def effect_size(ground: Ground) -> Scores:
    """Cohen's d of held-out projections; None where a class does not vary."""
    scores: Scores = {}
    for site in ground.usable:
        plus, minus = ground.projections(site)
        pooled = ((len(plus) - 1) * plus.var() + (len(minus) - 1) * minus.var()) / (len(plus) + len(minus) - 2)
        scores[site] = ((plus.mean() - minus.mean()) / pooled.sqrt()).item() if pooled > 0 else None
    return scores


def delta_logits(ground: Ground) -> Scores:
    """Mean |change of first-token logits| on positive prompts when the class difference is taken away at one site.

    Source: the layer scan of hybrid layer selection, arXiv:2511.03738; here the mean over prompts.
    """
    base = ground.unsteered[0]
    return {site: (ground.steered(_away(ground, site))[0] - base).norm(dim=-1).mean().item() for site in ground.usable}


def steering_score(ground: Ground) -> Scores:
    """Fall of the first-token refusal log-odds on positive prompts, the class difference taken away at one site."""
    tokens = ground.tokens
    base = refusal_score(ground.unsteered[0], tokens).mean()
    return {site: (base - refusal_score(ground.steered(_away(ground, site))[0], tokens).mean()).item()
            for site in ground.usable}


def arditi(ground: Ground) -> Scores:
    """Minus the bypass score, where the direction also induces refusal, leaves harmless prompts alone and lies early.

        min bypass  subject to  induce > 0,  KL < 0.1,  layer < 0.8 n_layers

    Here over sites at the position the calibration read; `recipe.refusal_direction` also goes over positions.
    """
    tokens, (_, harmless) = ground.tokens, ground.unsteered
    scores: Scores = {}
    for site in ground.usable:
        ablated = ground.calibration.steerer("ablation", source=site, sites="every_write")
        bypass, quiet = ground.steered(ablated)
        induced = ground.steered(ground.calibration.steerer("addition", source=site, coefficient=1.0))[1]
        passed = (refusal_score(induced, tokens).mean() > 0 and divergence(harmless, quiet).mean() < MAX_KL
                  and not too_deep(site.layer, ground.model.card.n_layers))
        scores[site] = -refusal_score(bypass, tokens).mean().item() if passed else None
    return scores


def _away(ground: Ground, site: Site) -> Steerer:
    return ground.calibration.steerer("addition", source=site, coefficient=-1.0)


CRITERIA: dict[str, Criterion] = {c.name: c for c in (
    Criterion("discriminative", "Dang & Ngo 2026, arXiv:2601.19375, Eq. 9", "none", discriminative),
    Criterion("mean_cosine", "Dang & Ngo 2026, arXiv:2601.19375, section 3.1", "none", agreement),
    Criterion("probe_accuracy", "held-out balanced accuracy", "1", probe_accuracy),
    Criterion("effect_size", "Cohen's d, held out", "1", effect_size),
    Criterion("delta_logits", "hybrid layer selection, arXiv:2511.03738", "1 a site", delta_logits),
    Criterion("steering_score", "first-token log-odds, metric of arXiv:2406.11717", "1 a site", steering_score),
    Criterion("arditi", "Arditi et al. 2024, arXiv:2406.11717, section 2.3", "2 a site", arditi),
)}
"""Every criterion by name, the cheap ones first."""
