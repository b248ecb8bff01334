"""Receipts from the counts that workers keep of every request."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from lenssteer.engines.vllm.tally import COLUMNS
from lenssteer.errors import SteeringError
from lenssteer.site import Site
from lenssteer.steering import ConditionReceipt, Receipt
from lenssteer.steering.receipts import Meter


class Counted(Meter):
    """A meter that was read elsewhere.

    Args:
        counts: Of one site, of several requests.
    """

    def __init__(self, counts: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.passes, self.seen, self.selected = (sum(one[name] for one in counts)
                                                 for name in ("passes", "seen", "selected"))
        self._sums = torch.tensor([one["sums"] for one in counts], dtype=torch.float64).reshape(-1, COLUMNS).sum(0)


def receipt_of(counts: Sequence[Mapping[str, Any]]) -> Receipt:
    """One receipt of all requests that one steerer, or steerers alike, steered.

    Args:
        counts: What `Followed.receipt` gave of each.

    Raises:
        SteeringError: when a request was not steered as asked.
    """
    broken = next((one["error"] for one in counts if one["error"]), None)
    if broken or not counts:
        raise SteeringError(broken or "the engine kept no receipt; it was asked for too late.")
    meters = {Site.parse(site): Counted([one["sites"][site] for one in counts]) for site in counts[0]["sites"]}
    gate = [partial(_condition, [one["conditions"][i] for one in counts]) for i in range(len(counts[0]["conditions"]))]
    return Receipt(counts[0]["where"], {**meters}, gate)


def _condition(counts: Iterable[Mapping[str, Any]]) -> ConditionReceipt:
    counts = list(counts)
    opened, asked = (sum(one[name] for one in counts) for name in ("opened", "asked"))
    return ConditionReceipt(counts[0]["condition"], counts[0]["unit"], opened, asked - opened)


def as_dict(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt of one request, for JSON; what went wrong stands under "error"."""
    error, found = counts["error"], {}
    if "sites" in counts:
        receipt = receipt_of([{**counts, "error": None}])
        found = receipt.as_dict()
        try:
            receipt.require_fired()
        except SteeringError as wrong:
            error = error or str(wrong)
    return {**found, "error": error} if error else found
