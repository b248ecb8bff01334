"""Scores of a model on both classes of a split, and an arm of a study told in numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lenssteer.evals import paired_difference
from lenssteer.evals.scoring import Scorer
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.prompts import ContrastSet
from lenssteer.rows import wilson_interval

Scores = Mapping[str, Mapping[str, Sequence[float | None]]]


def scores_of(model: LensModel, part: ContrastSet, decoding: Decoding,
              score: Scorer) -> dict[str, dict[str, list[float | None]]]:
    """Scores of the answers to both classes, by class and name, under whatever steerer is on."""
    asked, n = [*part.positive, *part.negative], len(part.positive)
    found = {name: [None if value is None else float(value) for value in values]
             for name, values in score(asked, generate(model, asked, decoding)).items()}
    return {"positive": {name: values[:n] for name, values in found.items()},
            "negative": {name: values[n:] for name, values in found.items()}}


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of what was scored; None where nothing was.

    >>> mean_of([1.0, None, 0.0]), mean_of([None])
    (0.5, None)
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def row_of(name: str, entry: Mapping[str, Any], unsteered: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """An arm with the mean, the interval and the paired difference to the unsteered model of every share.

    Args:
        name: Of the arm.
        entry: `scores` by class and name, and whatever else is known of it.
        unsteered: The entry of the unsteered model, on the same prompts.
        seed: Of the bootstrap.
    """
    plain = unsteered["scores"]
    shares = {kind: {score: _summary(values, plain[kind][score], seed) for score, values in scores.items()}
              for kind, scores in entry["scores"].items()}
    return {"arm": name, "kl": entry.get("kl"), "receipt": entry.get("receipt"), **shares}


def _summary(values: Sequence[float | None], plain: Sequence[float | None], seed: int) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    low, high = wilson_interval(sum(known) / len(known), len(known)) if known else (None, None)
    pairs = [(mine, other) for mine, other in zip(values, plain, strict=True) if mine is not None and other is not None]
    change = paired_difference([mine for mine, _ in pairs], [other for _, other in pairs], seed=seed) if pairs else None
    return {"mean": mean_of(values), "low": low, "high": high, "n": len(known), "unscored": len(values) - len(known),
            "less_unsteered": asdict(change) if change else None}
