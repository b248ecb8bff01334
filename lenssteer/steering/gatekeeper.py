"""A gate at work: readers take note of what their conditions say of the pass under way."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lenssteer.errors import SteeringError
from lenssteer.prompts import Columns, Tokens
from lenssteer.steering.gates import Condition, Gate
from lenssteer.steering.receipts import ConditionReceipt


class ConditionReader:
    """A hook that reads at the site of one condition and changes nothing.

    What it decided of a prompt holds for that prompt's rows until other prompts come, whatever becomes of the batch.
    """

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self._placed = condition
        self._columns: Columns | None = None
        self._tokens: Tokens | None = None
        self._met: Bool[Tensor, "batch chunk"] = torch.zeros(0, 0, dtype=torch.bool)
        self._counts: Tensor | int = 0
        self._asked = 0

    def __call__(self, h: Float[Tensor, "batch chunk d_model"], columns: Columns | None) -> None:
        if columns is None:
            raise SteeringError("the underlying model was run directly, where a gate cannot tell prompts from padding "
                                "and answers; use lenssteer's generate() or logits().")
        if self.condition.scope == "token":
            self._columns = columns
            self._decide(h, columns.real)
        elif columns.start == 0 and (columns.mask.shape[1] <= columns.tokens.ids.shape[1]
                                     or not self._remembers(columns.tokens)):
            if columns.mask.shape[1] < int(columns.tokens.prompt_end.max()):
                raise SteeringError("the gate needs the whole prompt in one pass; it came in pieces.")
            self._tokens = columns.tokens
            self._decide(self._pooled(h, columns).unsqueeze(1), None)

    def _decide(self, h: Tensor, real: Bool[Tensor, "batch chunk"] | None) -> None:
        dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        if self._placed.vector.device != h.device or self._placed.vector.dtype != dtype:
            self._placed = self.condition.to(h.device, dtype)
        value = self._placed.value(h)
        self._met, broken = self._placed.is_side(value), ~torch.isfinite(value)
        counted = torch.stack([self._met, broken])
        counted = counted if real is None else counted & real.to(h.device)
        self._counts = self._counts + counted.flatten(1).sum(-1)
        self._asked += len(h) if real is None else int(real.sum())

    def _pooled(self, h: Tensor, columns: Columns) -> Float[Tensor, "batch d_model"]:
        end = columns.tokens.prompt_end
        if self.condition.pool == "last":
            return h[torch.arange(len(h), device=h.device), (end - 1).to(h.device)]
        prompt = (columns.real & (columns.index < end.unsqueeze(-1))).to(h.device).unsqueeze(-1)
        # Padding may hold anything, and 0 * nan is nan: a mean must not touch it.
        wide = h if h.dtype == torch.float64 else h.float()
        return torch.where(prompt, wide, 0.0).sum(1) / prompt.sum(1)

    def _remembers(self, tokens: Tokens) -> bool:
        """Whether the decision at hand is about these rows, and keep only theirs."""
        if self._tokens is None or tokens is self._tokens:
            return self._tokens is not None
        place = {int(row): i for i, row in enumerate(self._tokens.rows)}
        index = torch.tensor([place.get(int(row), -1) for row in tokens.rows])
        if (index < 0).any() or not torch.equal(self._tokens.ids[index], tokens.ids):
            return False
        self._tokens, self._met = tokens, self._met[index.to(self._met.device)]
        return True

    def decided(self, columns: Columns) -> Bool[Tensor, "batch chunk"]:
        """Where the condition is met: one column for a decision about rows.

        Raises:
            SteeringError: when it was not read in time.
        """
        known = columns is self._columns if self.condition.scope == "token" else self._remembers(columns.tokens)
        if not known:
            raise SteeringError(f"the gate ({self.condition}) has not read these prompts: an answer needs its prompt "
                                "in an earlier pass, or in this one at a site before the edit.")
        return self._met

    def read(self) -> ConditionReceipt:
        """How often it was met so far."""
        opened, broken = self._counts.tolist() if isinstance(self._counts, Tensor) else (0, 0)
        unit = "rows" if self.condition.scope == "prompt" else "tokens"
        return ConditionReceipt(str(self.condition), unit, opened, self._asked - opened, broken)


class Gatekeeper:
    """All conditions of a gate, and the rule over them."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.readers = [ConditionReader(condition) for condition in gate.conditions]

    def open(self, columns: Columns) -> Bool[Tensor, "batch chunk"]:
        """Where the gate is open; one column for a decision about rows."""
        return self.gate.holds({reader.condition: reader.decided(columns) for reader in self.readers})
