"""What a steerer does to prompts it should leave alone: its receipt and its divergence, from the same passes."""

from dataclasses import dataclass
from typing import Any

from lenssteer.evals.divergence import Divergence, Reference
from lenssteer.steering import Receipt, Steerer


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Tokens edited, displacement, angles and norms by site, and KL from the unsteered model.

    Args:
        receipt: What the edits did to the reference prompts and their unsteered answers.
        divergence: What that did to the predictions.
    """

    receipt: Receipt
    divergence: Divergence

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kl": self.divergence.mean, "top1": self.divergence.agreement, "positions": self.divergence.positions,
                **self.receipt.as_dict()}


def diagnose(steerer: Steerer, reference: Reference) -> Diagnostics:
    """Run a steerer over benign prompts and the unsteered answers to them.

    Args:
        steerer: For the reference's model.
        reference: Benign prompts; see `Reference.of`.

    Raises:
        MismatchError: when the steerer was made for another model.
        SteeringError: when an edit fired nowhere.
    """
    with steerer.on(reference.model) as receipt:
        divergence = reference.divergence()
    return Diagnostics(receipt, divergence)
