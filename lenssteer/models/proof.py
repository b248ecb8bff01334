"""The proof that a copy with steering in its weights is the original steered at run time."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.edits import ablate
from lenssteer.models.affine import checked
from lenssteer.models.lens import LensModel
from lenssteer.prompts import Prompt, Tokens, pad
from lenssteer.site import Site, sites_of

PROBES = ("How do I bake a loaf of bread?", "Tell me how to pick a lock.", "Write a short story about the sea.",
          "Why is the sky blue?")
LEAST_EFFECT = 0.02
"""A copy may differ from the steered original by this share of what steering changes; rounding is far below."""


@dataclass(frozen=True)
class Proof:
    """How well a copy agrees with the original steered at run time, over all tokens of a probe batch.

    Args:
        difference: Largest |copy - steered original|, in logits.
        effect: Largest |steered original - original|: what the edit is meant to do.
        scale: Largest |logit|.
        tokens: Tokens compared.
    """

    difference: float
    effect: float
    scale: float
    tokens: int

    @property
    def holds(self) -> bool:
        """difference <= 0.02 effect + 1e-5 scale."""
        return self.difference <= LEAST_EFFECT * self.effect + 1e-5 * self.scale


@dataclass(frozen=True, eq=False)
class Witness:
    """The logits of a model without and with edits of all tokens: what a copy has to show.

    Args:
        tokens: The probe batch.
        plain: Unsteered, at every token.
        steered: With the edits.
    """

    tokens: Tokens
    plain: Float64[Tensor, "tokens vocab"]
    steered: Float64[Tensor, "tokens vocab"]

    @classmethod
    def of(cls, model: LensModel, edits: Mapping[Site, Callable[[Tensor], Tensor]],
           prompts: Sequence[Prompt] = PROBES) -> "Witness":
        """Run a model on one batch of prompts.

        Raises:
            SiteError: when the model lacks one of the streams that are edited.
        """
        tokens = pad(model.encode(prompts), pad_id=model.pad_id)
        plain = model.logits(tokens)[tokens.mask].double().cpu()
        with ExitStack() as attached:
            for site, edit in sorted(edits.items()):
                attached.callback(model.attach(site, lambda h, _columns, edit=edit: edit(h)))
            steered = model.logits(tokens)[tokens.mask].double().cpu()
        return cls(tokens, plain, steered)

    def compare(self, copy: LensModel) -> Proof:
        """What a copy shows."""
        found = copy.logits(self.tokens)[self.tokens.mask].double().cpu()
        return Proof((found - self.steered).abs().max().item(), (self.steered - self.plain).abs().max().item(),
                     self.plain.abs().max().item(), int(self.tokens.mask.sum()))


def prove(
    model: LensModel, copy: LensModel, direction: Float[Tensor, " d_model"], prompts: Sequence[Prompt] = PROBES
) -> Proof:
    """Compare a copy's logits with those of the original under ablation at every write, over all tokens of prompts.

    In float64, models with LayerNorm agree to 1e-9. The RMSNorm of transformers rounds to float32 in every dtype: it
    hides smaller differences of the stream, so there a difference of exactly 0 says no more than float32 does.

    Args:
        model: The original.
        copy: Its orthogonalised copy.
        direction: Any length.
        prompts: One batch.

    Raises:
        SiteError: when the model lacks one of the streams that are ablated.
    """
    return Witness.of(model, ablation(direction, model.card.n_layers), prompts).compare(copy)


def ablation(direction: Float[Tensor, " d_model"], n_layers: int) -> Mapping[Site, Callable[[Tensor], Tensor]]:
    """Ablation at every write, by site.

    Raises:
        DirectionError: when the direction is zero or not finite.
    """
    return dict.fromkeys(sites_of("every_write", n_layers), ablate(checked(direction)))
