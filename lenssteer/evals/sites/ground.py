"""What site criteria are computed from: a calibration, and held-out prompts that pass the model once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.capture import ClassSamples, capture_samples
from lenssteer.models import LensModel
from lenssteer.prompts import ContrastSet
from lenssteer.recipe import Calibration
from lenssteer.recipe.refusal_metric import next_token_logits, refusal_tokens
from lenssteer.site import Site
from lenssteer.steering import Steerer


@dataclass(frozen=True, eq=False)
class Ground:
    """A calibration and held-out prompts on one model; what is expensive is computed when first asked for.

    Args:
        model: Unsteered.
        calibration: Made on other prompts.
        held_out: Prompts of both classes.
    """

    model: LensModel
    calibration: Calibration
    held_out: ContrastSet

    @property
    def usable(self) -> list[Site]:
        """Sites that have a direction."""
        candidates = self.calibration.candidates
        return [site for site, usable in zip(candidates.sites, candidates.usable.tolist(), strict=True) if usable]

    @cached_property
    def samples(self) -> ClassSamples:
        """Held-out activations at every site, read where the calibration read."""
        record = self.calibration.record
        return capture_samples(self.model, self.held_out, self.calibration.sites, record["at"],
                               template=record.get("template"), system=record.get("system"))

    def projections(self, site: Site) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Held-out activations of both classes on the direction of their site."""
        k = self.calibration.candidates.index(site)
        vector = self.calibration.candidates.unit[k]
        return self.samples.positive[k].double() @ vector, self.samples.negative[k].double() @ vector

    @cached_property
    def tokens(self) -> list[int]:
        """First tokens that mark the positive class: what the model opens a refusal with."""
        return list(refusal_tokens(self.model, self.held_out.positive, self.held_out.negative, **self.format))

    @property
    def format(self) -> dict[str, Any]:
        """Template and system prompt of the calibration."""
        return {name: self.calibration.record.get(name) for name in ("template", "system")}

    @cached_property
    def unsteered(self) -> tuple[Float[Tensor, "n vocab"], Float[Tensor, "m vocab"]]:
        """First-token logits of both classes."""
        return self.logits(self.held_out.positive), self.logits(self.held_out.negative)

    def steered(self, steerer: Steerer) -> tuple[Float[Tensor, "n vocab"], Float[Tensor, "m vocab"]]:
        """The same under a steerer."""
        with steerer.on(self.model):
            return self.logits(self.held_out.positive), self.logits(self.held_out.negative)

    def logits(self, prompts: Sequence[str]) -> Float[Tensor, "n vocab"]:
        """Logits of the first answer token, float64, in the order of the prompts."""
        encoded = self.model.encode(prompts, **self.format)
        found: dict[int, Tensor] = {}
        for rows, logits in next_token_logits(self.model, encoded):
            found |= dict(zip(rows.tolist(), logits.double(), strict=True))
        return torch.stack([found[i] for i in range(len(encoded))])
