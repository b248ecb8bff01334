"""Receipts: what an edit did, token by token, added up per site."""

from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import SteeringError
from lenssteer.site import Site


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
    """

    passes: int
    seen: int
    selected: int
    edited: int
    mean_displacement: float
    mean_degrees: float
    norm_ratio: float
    non_finite: int

    @property
    def skipped(self) -> int:
        """Real tokens left as they were."""
        return self.seen - self.edited


class Meter:
    """Adds up what happens at one site; sums stay on the device until they are read."""

    def __init__(self) -> None:
        self.passes = self.seen = self.selected = 0
        self._sums: Tensor | None = None

    def add(self, seen: int, selected: int, before: Float[Tensor, "batch chunk d_model"],
            after: Float[Tensor, "batch chunk d_model"]) -> None:
        """Count one pass; tokens that were not chosen are equal before and after, and add nothing."""
        self.passes += 1
        self.seen += seen
        self.selected += selected
        if selected:
            sums = _measure(before, after)
            self._sums = sums if self._sums is None else self._sums + sums

    def read(self) -> SiteReceipt:
        """The receipt so far."""
        sums = [0.0] * 5 if self._sums is None else self._sums.tolist()
        edited = int(sums[0])
        displacement, degrees, ratio = (value / edited if edited else 0.0 for value in sums[1:4])
        return SiteReceipt(self.passes, self.seen, self.selected, edited, displacement, degrees,
                           ratio if edited else 1.0, int(sums[4]))


def _measure(before: Tensor, after: Tensor) -> Float[Tensor, " 5"]:
    """Edited tokens, and over them the sums of displacement, angle and norm ratio, and how many are not finite."""
    h, new = before.float(), after.float()
    moved = (new - h).norm(dim=-1)
    length, new_length = h.norm(dim=-1), new.norm(dim=-1)
    finite = torch.isfinite(new_length)
    edited = (moved > 0) | ~finite
    counted = edited & finite
    cosine = (h * new).sum(-1) / (length * new_length).clamp_min(1e-30)
    # acos loses half the digits near 1; the chord between unit vectors does not.
    chord = (h / length.clamp_min(1e-30).unsqueeze(-1) - new / new_length.clamp_min(1e-30).unsqueeze(-1)).norm(dim=-1)
    angle = torch.rad2deg(torch.where(cosine > 0.9, 2 * torch.asin((chord / 2).clamp(max=1)),
                                      torch.acos(cosine.clamp(-1, 1))))
    values = torch.stack([edited.to(h), moved, angle, new_length / length.clamp_min(1e-30), (~finite).to(h)])
    weight = torch.stack([edited, counted, counted, counted, edited])
    return torch.where(weight, values, torch.zeros_like(values)).to(torch.float64).sum((-2, -1))


@dataclass
class Receipt:
    """What a steerer did while it was on a model; filled as passes happen.

    Reading `sites` waits for the device once.
    """

    where: str
    meters: dict[Site, Meter] = field(default_factory=dict)

    @property
    def sites(self) -> dict[Site, SiteReceipt]:
        """The receipt of every site, in network order."""
        return {site: self.meters[site].read() for site in sorted(self.meters)}

    @property
    def edited(self) -> int:
        """Token edits, over all sites."""
        return sum(site.edited for site in self.sites.values())

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"where": self.where, "sites": {str(site): asdict(r) for site, r in self.sites.items()}}

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
                      else "the steered model ran no pass; was another model object run?")
            raise SteeringError(f"the edit fired nowhere at {', '.join(map(str, sorted(silent)))}: {reason}.")
        broken = [str(site) for site, receipt in self.sites.items() if receipt.non_finite]
        if broken:
            raise SteeringError(f"activations became non-finite at {', '.join(broken)}; lower the coefficient, "
                                "or load the model in float32 or bfloat16.")
