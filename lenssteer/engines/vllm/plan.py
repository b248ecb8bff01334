"""The plan of a step: what the op does at every site, kept as long as steps are alike."""

from collections.abc import Sequence

import torch

from lenssteer.engines.vllm.acting import Ledger, works_of
from lenssteer.engines.vllm.op import Work
from lenssteer.engines.vllm.step import Scheduled, SlotStep

HELD_STEPS = 32
"""Most steps of a plan; their lengths are measured together."""
Key = tuple[tuple[int, int], ...]


def key_of(scheduled: Sequence[Scheduled]) -> Key | None:
    """What steps must agree on to have one plan; None where a step is like no other.

    Each token is then one of an answer, whose place does not matter, and every gate is decided.
    """
    for one in scheduled:
        request = one.request
        if one.count > 1 or one.start < request.prompt_end or request.slot is None or not request.slot.is_steady \
                or not request.is_decided:
            return None
    return tuple((id(one.request), one.row) for one in scheduled)


class Plan:
    """The works of a step.

    Args:
        scheduled: Its steered requests.
        key: Of `key_of`.
        device: Of the activations.
        tallied: Whether what happens is measured.
    """

    def __init__(self, scheduled: Sequence[Scheduled], key: Key | None, device: torch.device, tallied: bool) -> None:
        self.key = key
        self.runs = 0
        self.works: dict[int, list[Work]] = {}
        self._steps: list[SlotStep] = []
        self._ledgers: list[Ledger] = []
        groups: dict[str, list[Scheduled]] = {}
        for one in scheduled:
            groups.setdefault(one.request.key, []).append(one)
        for group in groups.values():
            slot = group[0].request.slot
            if slot is not None:
                self._add(SlotStep(slot, group, device), tallied)

    def _add(self, step: SlotStep, tallied: bool) -> None:
        works, ledgers = works_of(step, tallied)
        for site, own in works.items():
            self.works.setdefault(site, []).extend(own)
        self._steps.append(step)
        self._ledgers += ledgers

    def serves(self, key: Key | None) -> bool:
        """Whether it is also the plan of a step with this key."""
        return key is not None and key == self.key and self.runs < HELD_STEPS

    def settle(self) -> None:
        """Tell the requests what happened since it was last settled."""
        runs, self.runs = self.runs, 0
        for step in self._steps if runs else ():
            step.count(runs)
        for ledger in self._ledgers:
            ledger.close()
