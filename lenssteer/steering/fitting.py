"""Fit the threshold of a condition."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.errors import ParameterError
from lenssteer.site import Site
from lenssteer.steering.gates import Condition


def fit_condition(
    positive: Float[Tensor, "positives d_model"],
    negative: Float[Tensor, "negatives d_model"],
    site: Site,
    vector: Float[Tensor, " d_model"],
    *,
    similarity: str = "cosine",
    above: bool | None = None,
    pool: str = "mean",
    scope: str = "prompt",
) -> Condition:
    """The condition that tells two classes apart with the highest F1.

        F1 = 2 TP / (2 TP + FP + FN)

    All thresholds that differ on the samples are compared: halfway between neighbouring similarities, and one that
    every sample meets. Among equals the one with the widest gap is taken.

    Args:
        positive: Activations that should meet the condition, pooled as `pool` says.
        negative: Activations that should not.
        site: Where they were read.
        vector: What they are compared with.
        similarity: See `Condition`.
        above: Side on which it is met; None takes the better one, above when both are as good.
        pool: How the prompt is pooled.
        scope: Whether rows or tokens are decided.

    Returns:
        A Condition with its F1.

    Raises:
        ParameterError: when a class is empty, or a similarity is not finite.

    Source: Lee et al. 2024, arXiv:2409.05907, grid search over thresholds and comparators. Departs from the authors'
    code: an exact search instead of a grid.
    """
    if not len(positive) or not len(negative):
        raise ParameterError(f"a condition is fitted on both classes; got {len(positive)} positive and {len(negative)} "
                             "negative samples.")
    blank = Condition(site, vector.double(), 0.0, similarity, True, pool, scope)
    values = [blank.value(samples.double()) for samples in (positive, negative)]
    if not all(torch.isfinite(v).all() for v in values):
        raise ParameterError(f"activations at {site} are not finite.")
    sides = (True, False) if above is None else (above,)
    found = [(*_best(*(v if side else -v for v in values)), side) for side in sides]
    f1, threshold, side = max(found, key=lambda one: one[0])
    return replace(blank, threshold=threshold if side else -threshold, above=side, f1=f1)


def _best(positive: Float[Tensor, " positives"], negative: Float[Tensor, " negatives"]) -> tuple[float, float]:
    """The highest F1 of "value > threshold is positive", and its threshold."""
    values = torch.cat([positive, negative]).unique()
    margin = (values[-1] - values[0]).clamp_min(1e-3).unsqueeze(0)
    lower = torch.cat([values[:1] - margin, values[:-1]])
    true, false = _above(positive, values), _above(negative, values)
    f1 = 2 * true.double() / (true + false + len(positive))
    gap = torch.cat([torch.zeros_like(margin), values[1:] - values[:-1]])
    k = int(torch.where(f1 == f1.max(), gap, -1.0).argmax())
    return float(f1[k]), float((lower[k] + values[k]) / 2)


def _above(samples: Float[Tensor, " samples"], values: Float[Tensor, " values"]) -> Int[Tensor, " values"]:
    """How many samples are at least each value."""
    return len(samples) - torch.searchsorted(samples.sort().values, values)
