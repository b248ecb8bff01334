"""What the sites of a steerer share about a pass: which tokens are chosen, whether the gate is open, how strongly."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lenssteer.prompts import Columns
from lenssteer.steering.gatekeeper import Gatekeeper
from lenssteer.steering.schedule import Schedule
from lenssteer.steering.where import Where


class Chooser:
    """Evaluates `where` and the schedule once a pass, and lets through the part of a change they admit.

    Args:
        where: Which tokens.
        keeper: The gate at work, if any.
        schedule: Factors, if any.
        answer_only: Leave prompts alone: for sites that come before the gate has read the prompt.
    """

    def __init__(self, where: Where, keeper: Gatekeeper | None = None, schedule: Schedule | None = None,
                 answer_only: bool = False) -> None:
        self.where = where
        self.keeper = keeper
        self.schedule = None if schedule is None or schedule.is_plain else schedule
        self.answer_only = answer_only
        self._columns: Columns | None = None
        self.chosen: Bool[Tensor, "batch chunk"] = torch.zeros(0, 0, dtype=torch.bool)
        self.seen = self.selected = 0
        self._mask: Bool[Tensor, "batch chunk 1"] | None = None
        self._factors: Float[Tensor, "batch chunk 1"] | None = None
        self._real: Bool[Tensor, "batch chunk"] | None = None

    @property
    def needs_columns(self) -> bool:
        """Whether it matters which token is which."""
        return self.where.kind != "all" or self.keeper is not None or self.schedule is not None

    def look(self, columns: Columns) -> None:
        """Take note of the pass under way."""
        if columns is self._columns:
            return
        self._columns, self._mask, self._factors, self._real = columns, None, None, None
        self.chosen = self.where.select(columns)
        if self.answer_only:
            self.chosen = self.chosen & (columns.index.unsqueeze(0) >= columns.tokens.prompt_end.unsqueeze(-1))
        self.seen, self.selected = int(columns.real.sum()), int(self.chosen.sum())

    def real_on(self, device: torch.device) -> Bool[Tensor, "batch chunk"] | None:
        """Which columns of the pass are no padding; None where all are."""
        if self._columns is None or self.seen == self.chosen.numel():
            return None
        if self._real is None or self._real.device != device:
            self._real = self._columns.real.to(device)
        return self._real

    def admit(self, h: Float[Tensor, "batch chunk d_model"],
              new: Float[Tensor, "batch chunk d_model"]) -> Float[Tensor, "batch chunk d_model"]:
        """`new` where the edit applies, weakened as the schedule says; `h`, bit for bit, elsewhere."""
        if self.schedule is not None and self._columns is not None:
            if self._factors is None or self._factors.device != h.device:
                self._factors = self.schedule.factors(self._columns).to(h.device).unsqueeze(-1)
            wide = torch.float64 if h.dtype == torch.float64 else torch.float32
            new = h + ((new.to(wide) - h.to(wide)) * self._factors.to(wide)).to(h.dtype)
        mask = self._open(h.device)
        return new if mask is None else torch.where(mask, new, h)

    def _open(self, device: torch.device) -> Bool[Tensor, "batch chunk 1"] | None:
        """The chosen tokens behind an open gate, where the activations are; None when that is every column."""
        every = self.selected == self.chosen.numel()
        if not every and (self._mask is None or self._mask.device != device):
            self._mask = self.chosen.to(device).unsqueeze(-1)
        mask = None if every else self._mask
        if self.keeper is None or self._columns is None:
            return mask
        gate = self.keeper.open(self._columns).to(device).unsqueeze(-1)
        return gate if mask is None else mask & gate
