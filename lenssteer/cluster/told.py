"""Receipts of tasks, put together as if one process had kept them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lenssteer.errors import SteeringError
from lenssteer.models import LensModel
from lenssteer.steering import Steerer

T = TypeVar("T")
COUNTS = ("passes", "seen", "selected", "edited", "non_finite")


@dataclass(frozen=True)
class Told:
    """What a steerer did in one task, or in several.

    Args:
        receipt: As `Receipt.as_dict` writes it.
        silent: Why the task alone would have been refused: an edit met no token in it.
    """

    receipt: dict[str, Any]
    silent: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.receipt


def told_by(model: LensModel, steerer: Steerer | None, work: Callable[[], T]) -> tuple[T, Told | None]:
    """On a worker: do something under a steerer. That an edit met no token is left to the driver, which knows whether
    it met one elsewhere.

    Raises:
        SteeringError: when activations became non-finite, or the work itself raises it.
    """
    if steerer is None:
        return work(), None
    done: list[T] = []
    silent = ""
    receipt = None
    try:
        with steerer.on(model) as receipt:
            done.append(work())
    except SteeringError as error:
        if receipt is None or not done or any(site.non_finite for site in receipt.sites.values()):
            raise
        silent = str(error)
    return done[0], Told(receipt.as_dict(), silent)


def together(told: Sequence[Told]) -> Told:
    """One receipt of several tasks: counts added, means weighted by the tokens they are over.

    Raises:
        SteeringError: when an edit met no token in any task.
    """
    receipts = [one.receipt for one in told]
    sites = {site: _site([receipt["sites"][site] for receipt in receipts]) for site in receipts[0]["sites"]}
    if any(not site["selected"] for site in sites.values()):
        raise SteeringError(next(one.silent for one in told if one.silent))
    merged = {"where": receipts[0]["where"], "sites": sites}
    if "conditions" in receipts[0]:
        every = zip(*(receipt["conditions"] for receipt in receipts), strict=True)
        merged["conditions"] = [_condition(same) for same in every]
    return Told(merged)


def _site(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(part[name] for part in parts) if name in COUNTS else _mean(name, parts) for name in parts[0]}


def _mean(name: str, parts: Sequence[dict[str, Any]]) -> float | None:
    """Weighted by edited tokens; what no token tells stays as it is."""
    known = [part for part in parts if part["edited"] and part[name] is not None]
    weight = sum(part["edited"] for part in known)
    return sum(part[name] * part["edited"] for part in known) / weight if weight else parts[0][name]


def _condition(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {**parts[0], **{name: sum(part[name] for part in parts) for name in ("opened", "closed")}}
