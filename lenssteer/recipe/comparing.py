"""Directions of any origin side by side: an SAE feature beside difference in means."""

from collections.abc import Callable, Mapping
from typing import Any

from lenssteer import edits
from lenssteer.directions import Candidates, Direction
from lenssteer.models import ModelCard
from lenssteer.steering import Steerer, Where

SteererFor = Callable[[float], Steerer]
Measure = Callable[[SteererFor], Mapping[str, Any]]


def direction_rows(candidates: Candidates, card: ModelCard, directions: Mapping[str, Direction], measure: Measure, *,
                   sense: float, where: str) -> list[dict[str, Any]]:
    """One line a direction: where it is, how it lies to difference in means there, and what steering along it does.

    `measure` is given the steerer as a function of strength: h' = h + sense * strength * length * v, where `length` is
    that of the difference in means at the site, so that strength 1 displaces equally for every direction.
    """
    rows = []
    for name, direction in directions.items():
        reference = candidates.direction(direction.site)
        step = direction.vector * (sense * reference.length)

        def steerer_for(strength: float, direction: Direction = direction, step: Any = step) -> Steerer:
            return Steerer({direction.site: edits.add(step, strength)}, Where.parse(where), card)

        rows.append({"direction": name, "site": str(direction.site), "length": direction.length,
                     "cosine": (direction.vector @ reference.vector).item(),
                     "separation": direction.positive - direction.negative, **measure(steerer_for)})
    return rows
