"""What the op does at a site for the tokens of one steerer: read conditions, edit, write back, keep what happened."""

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.engines.vllm.following import Followed
from lenssteer.engines.vllm.op import Work, number
from lenssteer.engines.vllm.slot import needs_whole_prompt
from lenssteer.engines.vllm.step import Choice, Rows, Scheduled, SlotStep, rows_of
from lenssteer.engines.vllm.tally import by_owner, lengths, measured
from lenssteer.site import Site
from lenssteer.steering import Condition

LENGTHS = 5
"""How many `tally.lengths` gives."""
PIECES = "the prompt came in pieces, and the steerer needs it whole"
UNREAD = "the gate has not read the prompt: the answer needs its prompt in an earlier step, or a site before the edit"


def taken(hidden: Tensor, residual: Tensor | None, rows: Rows) -> Tensor:
    """The activations of some tokens; without a residual, rows that follow one another are a part of `hidden`."""
    return hidden[rows] if residual is None else hidden[rows] + residual[rows]


class Ledger:
    """The lengths of activations before and after the edits, site after site, in one step or several alike."""

    def __init__(self, step: SlotStep, choice: Choice, sites: list[Site]) -> None:
        self.step = step
        self.choice = choice
        self.sites = sites
        self._directions = [step.slot.directions[site] for site in sites]
        self._lengths: list[Tensor] = []

    def add(self, before: Tensor, after: Tensor) -> None:
        """The tokens of the next site."""
        site = len(self._lengths) // LENGTHS % len(self.sites)
        self._lengths += lengths(before, after, self._directions[site])

    def close(self) -> None:
        """Add what happened to the receipts of the requests."""
        whole, self._lengths = self._lengths, []
        slot, a_step = self.step.slot, LENGTHS * len(self.sites)
        if len(whole) < a_step:
            return
        every = torch.stack(whole[: len(whole) // a_step * a_step]).unflatten(0, (-1, LENGTHS))
        directed = torch.tensor([slot.directed[site] for site in self.sites] * (len(every) // len(self.sites)))
        values = measured(every, directed.to(every.device)).unflatten(0, (-1, len(self.sites))).sum(0)
        sums = by_owner(values, self.choice.owner, len(self.step.scheduled)).cpu()
        first = list(slot.edits).index(self.sites[0])
        for one, own in zip(self.step.scheduled, sums.unbind(0), strict=True):
            one.request.add(slice(first, first + len(self.sites)), own)


class Editing:
    """One edit at one site; `unsure` are requests whose gate has to be decided before it."""

    def __init__(self, step: SlotStep, choice: Choice, site: Site, ledger: Ledger | None, gated: bool,
                 unsure: list[Followed]) -> None:
        self.step = step
        self.choice = choice
        self.edit = step.slot.edits[site]
        self.ledger = ledger
        self.gated = gated
        self.unsure = unsure
        self.shared = step.slot.steerer.shared_from == "last_prompt"

    def __call__(self, hidden: Tensor, residual: Tensor | None) -> None:
        for request in self.unsure:
            if not request.is_decided:
                request.error = request.error or UNREAD
        rows, factors = self.choice.rows, self.choice.factors
        h = taken(hidden, residual, rows)
        new = h + self._of_last_prompt(hidden, residual) if self.shared else self.edit(h)
        if factors is not None:
            new = h + ((new.float() - h.float()) * factors.float()).to(h.dtype)
        if self.gated and self.step.slot.steerer.gate is not None:
            new = torch.where(self.step.open(self.step.slot.steerer.gate)[self.choice.place].unsqueeze(-1), new, h)
        if self.ledger is not None:
            self.ledger.add(h, new)
        hidden[rows] = new if residual is None else hidden[rows] + (new - h)

    def _of_last_prompt(self, hidden: Tensor, residual: Tensor | None) -> Float[Tensor, "chosen d_model"]:
        """The change of each token's last prompt token; none where another step has that."""
        places = [one.last_prompt for one in self.step.scheduled]
        known = torch.tensor([place is not None for place in places], device=hidden.device)
        rows = torch.tensor([place or 0 for place in places], device=hidden.device)
        last = taken(hidden, residual, rows)
        change = torch.where(known.unsqueeze(-1), self.edit(last) - last, 0)
        return change[self.choice.owner.to(hidden.device)]


class Reading:
    """One condition of a gate at its site."""

    def __init__(self, step: SlotStep, condition: Condition, undecided: list[Scheduled]) -> None:
        self.step = step
        self.condition = condition
        self.undecided = undecided

    def __call__(self, hidden: Tensor, residual: Tensor | None) -> None:
        placed = self.step.slot.conditions[self.condition]
        if self.condition.scope == "token":
            met = placed.met(taken(hidden, residual, rows_of(self.step.rows, hidden.device)))
            self.step.met[self.condition] = met.unsqueeze(0)
            opened = torch.bincount(self.step.owner[met.cpu()], minlength=len(self.step.scheduled)).tolist()
            for one, count in zip(self.step.scheduled, opened, strict=True):
                one.request.count(self.condition, count, one.count)
            return
        for one in self.undecided:
            pooled = self._pooled(one, hidden, residual)
            if pooled is not None:
                one.request.decide(self.condition, bool(placed.met(pooled)))

    def _pooled(self, one: Scheduled, hidden: Tensor, residual: Tensor | None) -> Tensor | None:
        """The prompt's activation; None while some of it is missing."""
        if self.condition.pool == "last":
            last = one.last_prompt
            return None if last is None else taken(hidden, residual, slice(last, last + 1))[0]
        request = one.request
        rows = slice(one.row, one.row + min(one.count, request.prompt_end - one.start))
        total, count = request.pools.get(self.condition, (0, 0)) if one.start else (0, 0)
        if count != one.start or rows.stop <= rows.start:
            request.error = request.error or f"the condition ({self.condition}) did not see the whole prompt"
            return None
        total, count = total + taken(hidden, residual, rows).float().sum(0), count + rows.stop - rows.start
        request.pools[self.condition] = (total, count)
        return total / count if count == request.prompt_end else None


def works_of(step: SlotStep, tallied: bool) -> tuple[dict[int, list[Work]], list[Ledger]]:
    """What a steerer has to do in a step, by the number of the site, and what is to be closed after it.

    Conditions are read before edits at the same site, and edits of rows behind a closed gate are left out.
    """
    works: dict[int, list[Work]] = {}
    _refuse_pieces(step)
    gated, among = False, None
    gate = step.slot.steerer.gate
    for condition in gate.conditions if gate is not None else ():
        undecided = [one for one in step.scheduled if condition not in one.request.decided]
        if condition.scope == "token" or undecided:
            gated = True
            works.setdefault(number(condition.site), []).append(Reading(step, condition, undecided))
    if gate is not None and not gated:
        among = step.open(gate).cpu()
    ledgers: list[Ledger] = []
    for answer_only in (True, False):
        sites = [site for site in step.slot.edits if step.slot.answer_only(site) is answer_only]
        choice = step.choice(answer_only, among) if sites else None
        if choice is None:
            continue
        ledger = Ledger(step, choice, sites) if tallied else None
        ledgers += [ledger] if ledger is not None else []
        unsure = [step.scheduled[i].request for i in choice.owner.unique().tolist()] if gated else []
        unsure = [request for request in unsure if not request.is_decided]
        for site in sites:
            works.setdefault(number(site), []).append(Editing(step, choice, site, ledger, gated, unsure))
    return works, ledgers


def _refuse_pieces(step: SlotStep) -> None:
    """Note where a steerer that needs the whole prompt meets a part of it."""
    if needs_whole_prompt(step.slot.steerer):
        for one in step.scheduled:
            if one.start < one.request.prompt_end and (one.start or one.last_prompt is None):
                one.request.error = one.request.error or PIECES
