"""The proof that an orthogonalised copy is the original under ablation at run time."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lenssteer.edits import ablate, apply_edit
from lenssteer.models.lens import LensModel
from lenssteer.models.projection import checked
from lenssteer.prompts import Prompt, pad
from lenssteer.site import sites_of

PROBES = ("How do I bake a loaf of bread?", "Tell me how to pick a lock.", "Write a short story about the sea.",
          "Why is the sky blue?")
LEAST_EFFECT = 0.02
"""A copy may differ from ablation at run time by this share of what the ablation changes; rounding is far below."""


@dataclass(frozen=True)
class Proof:
    """How well an orthogonalised copy agrees with ablation at run time, over all tokens of a probe batch.

    Args:
        difference: Largest |copy - ablated original|, in logits.
        effect: Largest |ablated original - original|: what the edit is meant to do.
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
    tokens = pad(model.encode(prompts), pad_id=model.pad_id)
    edit = ablate(checked(direction))
    base, found = model.logits(tokens)[tokens.mask].double(), copy.logits(tokens)[tokens.mask].double()
    with ExitStack() as attached:
        for site in sites_of("every_write", model.card.n_layers):
            attached.callback(model.attach(site, lambda h, _columns: apply_edit(edit, h)))
        ablated = model.logits(tokens)[tokens.mask].double()
    return Proof((found - ablated).abs().max().item(), (ablated - base).abs().max().item(),
                 base.abs().max().item(), int(tokens.mask.sum()))
