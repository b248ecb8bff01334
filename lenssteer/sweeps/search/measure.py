"""What a search runs on the model: first tokens, answers and KL divergence, each cell once."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import SteeringError
from lenssteer.evals.divergence import Reference
from lenssteer.evals.scoring import Scorer
from lenssteer.models import Decoding, LensModel, generate, prefill
from lenssteer.models.sizing import fitting
from lenssteer.prompts import Prompt, pad
from lenssteer.steering import Steerer
from lenssteer.sweeps import sweep_answers
from lenssteer.sweeps.run import infinite
from lenssteer.sweeps.search.record import UNSTEERED, Record

WANTED = 4
"""So many of the wanted prompts say what the first token should be like."""
T = TypeVar("T")
SteererFor = Callable[[Float[Tensor, "*rows"]], Steerer]


@dataclass(eq=False)
class Measurer:
    """Runs what is asked for and not yet in the record.

    Args:
        model: Unsteered.
        steerer_for: Makes a steerer from one amount a row, or from one amount.
        prompts: Those a setting is chosen on, in the order in which they are used.
        wanted: Prompts that the unsteered model already treats as wanted; may be empty.
        decoding: Greedy.
        score: Of answers.
        record: Where everything goes.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
    """

    model: LensModel
    steerer_for: SteererFor
    prompts: Sequence[Prompt]
    wanted: Sequence[Prompt]
    decoding: Decoding
    score: Scorer
    record: Record
    template: str | None
    system: str | None
    batch_size: int | None
    _aim: Float[Tensor, " vocab"] | None = field(default=None, init=False)
    _reference: Reference | None = field(default=None, init=False)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of every prompt."""
        return [len(one.ids) for one in self.model.encode(self.prompts, template=self.template, system=self.system)]

    def first_tokens(self, amounts: Sequence[float | None], prompts: int) -> None:
        """How far the next-token distribution of the first prompts has moved at every amount.

            1 - TV(p_steered, mean p_wanted)        without wanted prompts: TV(p_steered, p_unsteered)
        """
        todo = [amount for amount in amounts if (amount, prompts - 1) not in self.record.first
                and amount not in self.record.broken]
        if not todo:
            return
        if self.wanted and self._aim is None:
            self._aim = self._once("first", "wanted", lambda: self._next_tokens(self.wanted[:WANTED]).mean(0))
        if self.record.replay("first", "first token", todo):
            return
        asked = self.prompts[:prompts]
        with self.model.metered() as cost:
            aim = self._aim if self._aim is not None else self._next_tokens(asked)
            steered = [amount for amount in todo if amount is not None]
            found = {UNSTEERED: self._next_tokens(asked)} if UNSTEERED in todo else {}
            found |= self._steered_first(steered, asked) if steered else {}
        rows = []
        for amount, likely in found.items():
            apart = (likely - aim).abs().sum(-1) / 2
            rows += [(amount, i, float(1 - tv if self.wanted else tv)) for i, tv in enumerate(apart)]
        self.record.add("first", "first token", rows, cost)

    def unsteered(self) -> None:
        """Answers of the unsteered model to all prompts."""
        if (UNSTEERED, 0) not in self.record.answers and not self.record.replay("answers", "unsteered", [UNSTEERED]):
            with self.model.metered() as cost:
                answers = generate(self.model, self.prompts, self.decoding, template=self.template, system=self.system,
                                   batch_size=self.batch_size)
                rows = self._scored(UNSTEERED, range(len(self.prompts)), answers)
            self.record.add("answers", "unsteered", rows, cost)

    def answers(self, amounts: Sequence[float], prompts: int, stage: str) -> None:
        """Answers to the first prompts at every amount."""
        missing: dict[tuple[int, ...], list[float]] = defaultdict(list)
        for amount in amounts:
            todo = tuple(i for i in range(prompts) if (amount, i) not in self.record.answers)
            if todo and amount not in self.record.broken:
                missing[todo].append(amount)
        for todo, group in missing.items():
            self._answer(group, todo, stage)

    def divergence(self, amount: float) -> None:
        """KL divergence on the wanted prompts; a setting that breaks the model there is broken."""
        if amount in self.record.kl or amount in self.record.broken:
            return
        if self._reference is None:
            self._reference = self._once("kl", "KL", lambda: Reference.of(
                self.model, self.wanted, template=self.template, system=self.system))
        if self.record.replay("kl", "KL", [amount]):
            return
        with self.model.metered() as cost:
            try:
                kl = self._reference.divergence(self.steerer_for(torch.tensor(amount, dtype=torch.float64))).mean
                kind, found = ("kl", kl) if math.isfinite(kl) else ("broken", f"its KL divergence is {kl}.")
            except SteeringError as error:
                kind, found = "broken", str(error)
        self.record.add(kind, "KL", [(amount, 0, found)], cost)

    def _once(self, kind: str, stage: str, compute: Callable[[], T]) -> T:
        """What every process computes for itself, and what is paid for once."""
        paid = self.record.replay(kind, stage, [])
        with self.model.metered() as cost:
            found = compute()
        if not paid:
            self.record.add(kind, stage, [], cost)
        return found

    def _answer(self, amounts: Sequence[float], numbers: Sequence[int], stage: str) -> None:
        """Where a batch breaks, its settings run one by one."""
        kind = self.record.replay("answers", stage, amounts) or self._run(amounts, numbers, stage)
        if kind == "broken" and len(amounts) > 1:
            for amount in amounts:
                self._answer([amount], numbers, stage)

    def _run(self, amounts: Sequence[float], numbers: Sequence[int], stage: str) -> str:
        asked, rows, kind = [self.prompts[i] for i in numbers], list[Any](), "answers"
        with self.model.metered() as cost:
            try:
                found = sweep_answers(self.model, self.steerer_for, amounts, asked, self.decoding,
                                      template=self.template, system=self.system, batch_size=self.batch_size)
                for amount in amounts:
                    rows += self._scored(amount, numbers, found[amount])
            except SteeringError as error:
                kind, rows = "broken", [(amounts[0], 0, str(error))] if len(amounts) == 1 else []
        self.record.add(kind, stage, rows, cost)
        return kind

    def _scored(self, amount: float | None, numbers: Sequence[int], answers: Sequence[str]
                ) -> list[tuple[float | None, int, dict[str, float | None]]]:
        """Scores of answers.

        Raises:
            SteeringError: when one is not finite.
        """
        scores = self.score([self.prompts[i] for i in numbers], answers)
        broken = infinite(scores)
        if broken:
            raise SteeringError(broken if amount is not None else f"{broken} It is unsteered: leave that score out.")
        return [(amount, i, {name: values[k] for name, values in scores.items()}) for k, i in enumerate(numbers)]

    def _steered_first(self, amounts: Sequence[float], asked: Sequence[Prompt]
                       ) -> dict[float | None, Float[Tensor, "prompts vocab"]]:
        """Distributions by amount; where a batch breaks, those of the settings that run."""
        rows = torch.tensor(list(amounts), dtype=torch.float64).repeat_interleave(len(asked))
        try:
            with self.steerer_for(rows).on(self.model):
                likely = self._next_tokens([*asked] * len(amounts))
        except SteeringError:
            halves = [amounts[: len(amounts) // 2], amounts[len(amounts) // 2 :]] if len(amounts) > 1 else []
            return {amount: likely for half in halves for amount, likely in self._steered_first(half, asked).items()}
        return dict(zip(amounts, likely.split(len(asked)), strict=True))

    def _next_tokens(self, prompts: Sequence[Prompt]) -> Float[Tensor, "prompts vocab"]:
        encoded = self.model.encode(prompts, template=self.template, system=self.system)
        found: dict[int, Tensor] = {}

        def first(group: list[int]) -> Tensor:
            tokens = pad([encoded[i] for i in group], pad_id=self.model.pad_id, rows=group)
            return torch.softmax(prefill(self.model, tokens)[0].double(), -1).cpu()

        for group, likely in fitting(self.model, encoded, first, rows=self.batch_size, new=1):
            found |= dict(zip(group, likely, strict=True))
        return torch.stack([found[i] for i in range(len(encoded))])
