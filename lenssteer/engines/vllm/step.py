"""The tokens of a step by steerer: what the scheduler put into it, and which of them each rule chooses.

Rules for tokens, schedules and gates are those of `lenssteer.steering`: every token of a step is presented to them as a
row of its own whose prompt ends so many columns before or after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenssteer.engines.vllm.following import Followed
from lenssteer.engines.vllm.slot import Slot
from lenssteer.prompts import Columns, Tokens
from lenssteer.steering import Gate

Rows = slice | Tensor


@dataclass(frozen=True)
class Scheduled:
    """A steered request in a step.

    Args:
        request: Whose tokens.
        row: Of its first token in the step's activations.
        start: Index of that token in its text.
        count: How many tokens.
    """

    request: Followed
    row: int
    start: int
    count: int

    @property
    def last_prompt(self) -> int | None:
        """Row of the last prompt token; None where another step has it."""
        place = self.request.prompt_end - 1 - self.start
        return self.row + place if 0 <= place < self.count else None


@dataclass(frozen=True, eq=False)
class Choice:
    """The tokens of a step that a rule chooses.

    Args:
        rows: In the step's activations.
        owner: Number of the request each belongs to.
        place: Number of each among the tokens of its steerer.
        factors: Of the change, by token; None for 1.
    """

    rows: Rows
    owner: Int[Tensor, " chosen"]
    place: Int[Tensor, " chosen"]
    factors: Float[Tensor, "chosen 1"] | None


class SlotStep:
    """All tokens of a step whose requests ask for the same edit.

    Args:
        slot: The edit.
        scheduled: Its requests.
        device: Of the activations.
    """

    def __init__(self, slot: Slot, scheduled: Sequence[Scheduled], device: torch.device) -> None:
        self.slot = slot
        self.scheduled = scheduled
        self.device = device
        self.met: dict[object, Bool[Tensor, "1 tokens"]] = {}
        counts = [one.count for one in scheduled]
        self.rows = _ranges([one.row for one in scheduled], counts)
        self.owner = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        self._at = _ranges([one.start for one in scheduled], counts)

    @cached_property
    def columns(self) -> Columns:
        """Every token as a row of one column, number 0, with the places of its text counted from it."""
        at, count = self._at, len(self._at)
        ends = torch.tensor([[one.request.instruction_end, one.request.prompt_end] for one in self.scheduled])
        ends = ends[self.owner]
        every = torch.ones(count, 1, dtype=torch.bool)
        marks = torch.stack([torch.zeros_like(at), ends[:, 0] - at], -1)
        return Columns(0, every, Tokens(torch.zeros(count, 1, dtype=torch.long), every, marks, ends[:, 1] - at,
                                        torch.arange(count)))

    @property
    def in_prompt(self) -> Bool[Tensor, " tokens"]:
        """Which tokens belong to prompts."""
        return self.columns.tokens.prompt_end > 0

    def chosen(self, answer_only: bool) -> Bool[Tensor, " tokens"]:
        """The tokens that the steerer's rule chooses."""
        where = self.slot.steerer.where
        if where.kind == "all" and not answer_only:
            return torch.ones(len(self.owner), dtype=torch.bool)
        chosen = where.select(self.columns)[:, 0]
        return chosen & ~self.in_prompt if answer_only else chosen

    def choice(self, answer_only: bool, among: Bool[Tensor, " tokens"] | None = None) -> Choice | None:
        """The chosen tokens, of those in `among`; None where there are none."""
        chosen = self.chosen(answer_only)
        place = (chosen if among is None else chosen & among).nonzero()[:, 0]
        if not len(place):
            return None
        schedule, factors = self.slot.steerer.schedule, None
        if schedule is not None and not schedule.is_plain:
            factors = schedule.factors(self.columns)[place].to(self.device)
        return Choice(rows_of(self.rows[place], self.device), self.owner[place], place, factors)

    def count(self, steps: int) -> None:
        """Note in the requests what the step, or so many alike, held of them."""
        flags = {self.slot.answer_only(site) for site in self.slot.edits}
        tokens = {flag: self._chosen_of_each(flag) for flag in flags}
        for number, one in enumerate(self.scheduled):
            one.request.passes += steps
            one.request.seen += steps * one.count
            for flag, chosen in tokens.items():
                one.request.selected[flag] += steps * chosen[number]

    def _chosen_of_each(self, answer_only: bool) -> list[int]:
        if self.slot.steerer.where.kind == "all" and not answer_only:
            return [one.count for one in self.scheduled]
        return torch.bincount(self.owner[self.chosen(answer_only)], minlength=len(self.scheduled)).tolist()

    def open(self, gate: Gate) -> Bool[Tensor, " tokens"]:
        """Where the gate is open, by what is known of its conditions now."""
        known = {}
        for condition in gate.conditions:
            if condition.scope == "token":
                known[condition] = self.met[condition]
            else:
                told = [one.request.decided.get(condition, False) for one in self.scheduled]
                known[condition] = torch.tensor(told)[self.owner].unsqueeze(0).to(self.device)
        return gate.holds(known)[0]


def _ranges(starts: Sequence[int], counts: Sequence[int]) -> Int[Tensor, " total"]:
    """start, start + 1, ... of every range, one after the other."""
    if all(count == 1 for count in counts):
        return torch.tensor(starts)
    return torch.from_numpy(np.concatenate([np.arange(start, start + count)
                                            for start, count in zip(starts, counts, strict=True)]))


def rows_of(rows: Int[Tensor, " rows"], device: torch.device) -> Rows:
    """Rows as a slice where they follow one another."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return slice(first, last + 1)
    return rows.to(device)
