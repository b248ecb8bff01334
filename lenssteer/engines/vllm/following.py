"""One steered request on a worker: what was decided of its prompt, and what was done to its tokens."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lenssteer.engines.vllm.slot import Slot
from lenssteer.engines.vllm.tally import COLUMNS
from lenssteer.steering import Condition

HELD = 64
"""Most steps whose sums are kept apart; adding tensors up costs more than keeping them."""


@dataclass(eq=False)
class Followed:
    """A request, from its first step until its receipt is fetched.

    Args:
        key: Of its edit; requests with the same key share a slot.
        slot: Its steerer; None where there is none for it.
        prompt_end: Token index where its answer begins.
        instruction_end: Token index where its instruction ends.
        error: Why it was not steered as asked.
    """

    key: str
    slot: Slot | None
    prompt_end: int
    instruction_end: int
    error: str | None = None
    passes: int = 0
    seen: int = 0
    selected: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    decided: dict[Condition, bool] = field(default_factory=dict)
    pools: dict[Condition, tuple[Tensor, int]] = field(default_factory=dict)
    asked: dict[Condition, list[int]] = field(default_factory=dict)
    sums: list[tuple[slice, Tensor]] = field(default_factory=list)

    @property
    def is_decided(self) -> bool:
        """Whether every condition about its prompt is settled."""
        return self.slot is None or all(one in self.decided for one in self.slot.conditions if one.scope == "prompt")

    def decide(self, condition: Condition, met: bool) -> None:
        """Settle a condition about the prompt."""
        self.decided[condition] = met
        self.pools.pop(condition, None)
        self.count(condition, int(met), 1)

    def count(self, condition: Condition, opened: int, asked: int) -> None:
        """Note how often a condition was met, and asked."""
        before = self.asked.setdefault(condition, [0, 0])
        before[0] += opened
        before[1] += asked

    def add(self, sites: slice, sums: Tensor) -> None:
        """Add what happened at some of its sites, [sites, columns]."""
        self.sums.append((sites, sums))
        if len(self.sums) > HELD:
            self.sums = [(slice(0, None), self._total())]

    def _total(self) -> Tensor:
        total = torch.zeros(len(self.slot.edits) if self.slot is not None else 0, COLUMNS, dtype=torch.float64)
        for first in {sites.start for sites, _ in self.sums}:
            own = torch.stack([sums for sites, sums in self.sums if sites.start == first]).sum(0)
            total[first : first + len(own)] += own
        return total

    def counts(self) -> dict[str, Any]:
        """Plain counts, for another process; see `receipts.receipt_of`."""
        if self.slot is None:
            return {"error": self.error}
        sites = {str(site): {"passes": self.passes, "seen": self.seen,
                             "selected": self.selected[self.slot.answer_only(site)], "sums": line}
                 for site, line in zip(self.slot.edits, self._total().tolist(), strict=True)}
        conditions = [{"condition": str(c), "unit": "rows" if c.scope == "prompt" else "tokens",
                       "opened": self.asked.get(c, [0, 0])[0], "asked": self.asked.get(c, [0, 0])[1]}
                      for c in self.slot.conditions]
        return {"where": str(self.slot.steerer.where), "sites": sites, "conditions": conditions, "error": self.error}
