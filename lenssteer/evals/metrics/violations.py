"""Violations: answers of a setting, such as an angle, that a stated threshold calls damaged."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from lenssteer.errors import ParameterError


@dataclass(frozen=True)
class Threshold:
    """Where a measure of an answer starts to count as damage; a value on the threshold does not.

    Args:
        limit: In the unit of the measure.
        above: Whether damage lies above; else it lies below.
        source: Where the number is from.
    """

    limit: float
    above: bool = True
    source: str = "a choice of lenssteer"

    def passed(self, value: float) -> bool:
        """Whether a value is on the damaged side."""
        return value > self.limit if self.above else value < self.limit


THRESHOLDS: Mapping[str, Threshold] = {
    "perplexity": Threshold(2.0, source="arXiv:2601.19375: on the mean of a setting, under the steered model itself"),
    "windowed_compression": Threshold(1 / 2.4, above=False, source="arXiv:2212.04356, section 4.5: 2.4, plain over "
                                      "compressed, of a transcript"),
    "contamination": Threshold(0.05),
    "repeated_ngrams": Threshold(0.25),
    "loop": Threshold(0.0),
    "empty": Threshold(0.0),
    "truncated": Threshold(0.0),
}
"""Thresholds on the measures of `damage`."""


@dataclass(frozen=True)
class Violations:
    """Answers of one setting beyond a threshold.

    Args:
        beyond: Answers beyond it.
        scored: Answers that have the measure.
        unscored: Answers that lack it, such as those too short for it.
        mean: Mean of the measure over scored answers; None where there is none.
        on_average: Whether that mean is beyond the threshold, which is how the source counts perplexity.
    """

    beyond: int
    scored: int
    unscored: int
    mean: float | None
    on_average: bool


def count_violations(answers: Sequence[Mapping[str, float | None]],
                     thresholds: Mapping[str, Threshold] = THRESHOLDS) -> dict[str, Violations]:
    """Count the answers of a setting beyond each threshold.

    Args:
        answers: Measures by name, as `damage` gives them, one mapping an answer, all with the same names. None and NaN
            are unscored.
        thresholds: By name of the measure; those of measures the answers lack are not counted.

    Raises:
        ParameterError: when there is no answer, names differ between answers, or a measure has no threshold.
    """
    names = list(answers[0]) if answers else []
    if not names or any(set(answer) != set(names) for answer in answers):
        raise ParameterError("expected at least one answer, all with the same measures.")
    missing = sorted(set(names) - set(thresholds))
    if missing:
        raise ParameterError(f"no threshold for {', '.join(missing)}; there are {', '.join(sorted(thresholds))}.")
    return {name: _counted([answer[name] for answer in answers], thresholds[name]) for name in names}


def settings_beyond(settings: Mapping[Hashable, Mapping[str, Violations]]) -> dict[str, int]:
    """For each measure the number of settings whose mean is beyond its threshold.

    Args:
        settings: What `count_violations` found at each setting, such as at every angle.

    Source: how Dang & Ngo 2026, arXiv:2601.19375, count perplexity over angles.
    """
    names = dict.fromkeys(name for found in settings.values() for name in found)
    return {name: sum(found[name].on_average for found in settings.values() if name in found) for name in names}


def _counted(values: Sequence[float | None], threshold: Threshold) -> Violations:
    scored = [value for value in values if value is not None and not math.isnan(value)]
    mean = sum(scored) / len(scored) if scored else None
    return Violations(sum(map(threshold.passed, scored)), len(scored), len(values) - len(scored), mean,
                      mean is not None and threshold.passed(mean))
