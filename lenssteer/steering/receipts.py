"""Receipts: what an edit did, token by token, added up per site."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import vector_norm

from lenssteer.errors import SteeringError
from lenssteer.site import Site
from lenssteer.steering.trace import Trace

HELD_TOKENS = 4096
"""Tokens of a site whose lengths are held before they are added up."""


@dataclass(frozen=True)
class SiteReceipt:
    """What happened at one site.

    Args:
        passes: Forward passes that reached the site.
        seen: Real tokens that passed it.
        selected: Of those, tokens the rule `where` chose.
        edited: Of those, tokens whose activation changed; the rest met a closed gate, or an edit without effect.
        mean_displacement: Mean |h' - h| over edited tokens.
        mean_degrees: Mean angle between h and h' over edited tokens.
        norm_ratio: Mean |h'| / |h| over edited tokens.
        non_finite: Edited tokens with a value that is not finite.
        direction_degrees_before: Mean angle of h to the first line the edit writes, over edited tokens; None where it
            writes nothing.
        direction_degrees_after: The same of h'.
    """

    passes: int
    seen: int
    selected: int
    edited: int
    mean_displacement: float
    mean_degrees: float
    norm_ratio: float
    non_finite: int
    direction_degrees_before: float | None = None
    direction_degrees_after: float | None = None

    @property
    def skipped(self) -> int:
        """Real tokens left as they were."""
        return self.seen - self.edited

    @property
    def share(self) -> float:
        """Share of real tokens that were edited."""
        return self.edited / self.seen if self.seen else 0.0


@dataclass(frozen=True)
class ConditionReceipt:
    """How one condition of a gate was decided.

    Args:
        condition: What was asked.
        unit: "rows", each decided once, or "tokens".
        opened: How many met it.
        closed: How many did not.
        non_finite: Of those, how many could not be judged.
    """

    condition: str
    unit: str
    opened: int
    closed: int
    non_finite: int = 0


class Meter:
    """Adds up what happens at one site; sums stay on the device until they are read.

    A pass costs a handful of lengths and products a token; angles and sums are made of many passes at once.
    """

    def __init__(self) -> None:
        self.passes = self.seen = self.selected = 0
        self._sums: Tensor | None = None
        self._held: list[tuple[Tensor, ...]] = []
        self._tokens = 0
        self._kind: tuple[torch.Size, Tensor | None] | None = None

    def add(self, seen: int, selected: int, before: Float[Tensor, "batch chunk d_model"],
            after: Float[Tensor, "batch chunk d_model"],
            direction: Float[Tensor, "#batch 1 d_model"] | None = None,
            real: Bool[Tensor, "batch chunk"] | None = None) -> None:
        """Count one pass; tokens that were not chosen are equal before and after, and add nothing.

        `direction` is a unit vector for all rows or one a row; a zero one counts no angles. Where `real` is False
        there is padding, which may hold anything.
        """
        self.passes += 1
        self.seen += seen
        self.selected += selected
        if not selected:
            return
        if self._kind is None or self._kind[0] != before.shape or self._kind[1] is not direction:
            self._absorb()
            self._kind = before.shape, direction
        lengths = _measure(before, after, direction)
        self._held.append(lengths if real is None else tuple(torch.where(real, value, 0.0) for value in lengths))
        self._tokens += before.numel() // before.shape[-1]
        if self._tokens >= HELD_TOKENS:
            self._absorb()

    def _absorb(self) -> None:
        """Add what is held to the sums, and hold nothing."""
        if self._held and self._kind is not None:
            direction = self._kind[1]
            directed = direction.any(-1) if direction is not None else torch.zeros_like(self._held[0][0])
            sums = _summed([torch.stack(values).double() for values in zip(*self._held, strict=True)], directed)
            self._sums = sums if self._sums is None else self._sums + sums
        self._held, self._tokens = [], 0

    def read(self) -> SiteReceipt:
        """The receipt so far."""
        self._absorb()
        sums = [0.0] * 8 if self._sums is None else self._sums.tolist()
        edited, directed = int(sums[0]), sums[5]
        displacement, degrees, ratio = (value / edited if edited else 0.0 for value in sums[1:4])
        start, end = (value / directed if directed else None for value in sums[6:])
        return SiteReceipt(self.passes, self.seen, self.selected, edited, displacement, degrees,
                           ratio if edited else 1.0, int(sums[4]), start, end)


def _measure(before: Tensor, after: Tensor, direction: Tensor | None) -> tuple[Tensor, ...]:
    """|h|, |h'| and |h' - h| of every token, and the products of h and h' with the direction where there is one."""
    h, new = before.float(), after.float()
    lengths = vector_norm(h, dim=-1), vector_norm(new, dim=-1), vector_norm(new - h, dim=-1)
    if direction is None:
        return lengths
    line = direction.float()
    if len(line) == 1:
        line = line.view(-1)
        return *lengths, h @ line, new @ line
    return *lengths, (h @ line.mT).squeeze(-1), (new @ line.mT).squeeze(-1)


def _summed(values: list[Tensor], directed: Tensor) -> Float[Tensor, " 8"]:
    """Edited tokens, and over them the sums of displacement, angle and norm ratio, and how many are not finite; tokens
    of rows with a direction, and over them the sums of angles to it before and after."""
    length, new_length, moved, *along = values
    finite = torch.isfinite(new_length)
    edited = (moved > 0) | ~finite
    counted = edited & finite
    start, end = along or (length, length)
    found = [moved, _degrees_between(length, new_length, moved), new_length / length.clamp_min(1e-30)]
    to_line = [torch.ones_like(length), _degrees(start / length.clamp_min(1e-30)),
               _degrees(end / new_length.clamp_min(1e-30))]
    sums = [edited, *(torch.where(counted, value, 0.0) for value in found), ~finite,
            *(torch.where(counted & (directed != 0), value, 0.0) for value in to_line)]
    return torch.stack([value.double().sum() for value in sums])


def _degrees(cosine: Tensor) -> Tensor:
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def _degrees_between(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Angle between the sides a and b of a triangle whose third side is c; 90 where one of them is zero.

        tan(angle / 2)^2 = (c - (a - b)) (c + (a - b)) / ((a + b - c) (a + b + c))

    Source: Kahan 2014, "Miscalculating Area and Angles of a Needle-like Triangle": small angles keep their digits.
    """
    gap = a - b
    opposite, beside = (c - gap) * (c + gap), (a + b - c) * (a + b + c)
    half = torch.atan2(opposite.clamp_min(0).sqrt(), beside.clamp_min(0).sqrt())
    return torch.where((a > 0) & (b > 0), torch.rad2deg(2 * half), 90.0)


@dataclass
class Receipt:
    """What a steerer did while it was on a model; filled as passes happen.

    Reading `sites` waits for the device once. `trace` holds every token where `Steerer.on` was asked for it.
    """

    where: str
    meters: dict[Site, Meter] = field(default_factory=dict)
    gate: list[Callable[[], ConditionReceipt]] = field(default_factory=list)
    trace: Trace | None = None

    @property
    def sites(self) -> dict[Site, SiteReceipt]:
        """The receipt of every site, in network order."""
        return {site: self.meters[site].read() for site in sorted(self.meters)}

    @property
    def edited(self) -> int:
        """Token edits, over all sites."""
        return sum(site.edited for site in self.sites.values())

    @property
    def conditions(self) -> list[ConditionReceipt]:
        """How every condition of the gate was decided."""
        return [read() for read in self.gate]

    def as_dict(self) -> dict[str, object]:
        """For JSON; conditions only where there is a gate."""
        sites = {str(site): asdict(r) for site, r in self.sites.items()}
        gate = {"conditions": [asdict(condition) for condition in self.conditions]} if self.gate else {}
        return {"where": self.where, "sites": sites, **gate}

    def require_fired(self) -> None:
        """Refuse a run in which an edit was never offered a token, or made activations that are not finite.

        A gate that stayed closed is not an error: it is counted as selected but not edited.

        Raises:
            SteeringError: with the sites, and what to look at.
        """
        silent = [site for site, meter in self.meters.items() if meter.selected == 0]
        if silent:
            passes = max(meter.passes for meter in self.meters.values())
            reason = (f"where={self.where!r} chose no token in {passes} passes" if passes
                      else "the steered model ran no pass; perhaps another model object was run")
            raise SteeringError(f"the edit fired nowhere at {', '.join(map(str, sorted(silent)))}: {reason}.")
        self.require_finite()

    def require_finite(self) -> None:
        """Refuse a run with activations that are not finite, or too long to be measured.

        Raises:
            SteeringError: with the sites, and how many tokens at each.
        """
        counts = {site: receipt.non_finite for site, receipt in self.sites.items()}
        broken = [f"{site} in {count} tokens" for site, count in counts.items() if count]
        if broken:
            raise SteeringError(f"activations are not finite (became non-finite at {', '.join(broken)}); lower the "
                                "coefficient, or load the model in float32 or bfloat16.")
        blind = [str(read.condition) for read in self.conditions if read.non_finite]
        if blind:
            raise SteeringError(f"a gate read activations that are not finite: {', '.join(blind)}. Load the model in "
                                "float32 or bfloat16.")
