"""The affine edits, and what they make of the weights around a site."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.edits import LowRankEdit
from lenssteer.errors import DirectionError, SteeringError

SAME = 1e-6
LINES = 4096
"""Lines of a weight that are changed at a time, so that no second copy of a large one is made in float32."""


@dataclass(frozen=True, eq=False)
class Affine:
    """An edit that is the same affine map of every activation.

        h' = h + lift^T (read h) + constant

    Args:
        read: What is read, one coordinate a line.
        lift: What each coordinate writes.
        constant: What every activation is moved by.
    """

    read: Float64[Tensor, "rank d_model"]
    lift: Float64[Tensor, "rank d_model"]
    constant: Float64[Tensor, " d_model"]

    @classmethod
    def of(cls, edit: Any) -> "Affine":
        """The map that an edit is.

        Raises:
            SteeringError: when it is none: it encodes latents, differs between rows, or depends on gates or norms.
        """
        reason = _why_not_affine(edit)
        if reason:
            raise SteeringError(f"this edit {reason}, so it is no affine map of the activation.")
        wide = edit.to("cpu", torch.float64)
        lift = wide.gain.mT @ wide.write
        return cls(wide.read, lift, wide.bias @ lift + wide.offset @ wide.write)

    @property
    def moves(self) -> bool:
        """Whether there is a constant."""
        return bool(self.constant.any())

    @property
    def is_constant(self) -> bool:
        """Whether nothing of the activation is read: |lift^T read| = 0, without the d_model x d_model product."""
        return not ((self.lift @ self.lift.mT) * (self.read @ self.read.mT)).sum().item()

    @property
    def projected(self) -> Float64[Tensor, " d_model"] | None:
        """The unit direction r where the map is h' = h - (r.h) r; None where it is another."""
        line = self.read[0]
        same = len(self.read) == 1 and abs(line.norm().item() - 1) < SAME and (line + self.lift[0]).abs().max() < SAME
        return line if same and not self.moves else None


def _why_not_affine(edit: Any) -> str:
    if not isinstance(edit, LowRankEdit):
        return "encodes the latents of an SAE"
    reasons = {"differs between the rows of a batch": edit.rows is not None,
               "has a gate": edit.gate is not None and bool(edit.gate.any()),
               "depends on the length of the in-plane part": edit.is_radial,
               f"has a norm rule ({edit.norm})": edit.norm != "none"}
    return next((reason for reason, holds in reasons.items() if holds), "")


@dataclass(frozen=True, eq=False)
class Change:
    """What becomes of one stored tensor when activations on one side of it are edited.

        output   W' = (I + lift^T read) W        b' = b + lift^T (read b) + constant
        input    W' = W (I + lift^T read)

    Args:
        axis: The axis of the tensor that is the edited activation.
        folds: The edits, in the order in which an activation meets them.
        side: Whether the tensor writes the activation or reads it.
        constant: Whether constants are added, as they are to a bias and to every line of an embedding.
    """

    axis: int
    folds: tuple[Affine, ...]
    side: Literal["output", "input"] = "output"
    constant: bool = False

    def __call__(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The changed tensor, computed in at least float32, in its own dtype."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        folds = [self._pair(fold, wide, weight.device) for fold in self.folds]
        changed = torch.empty_like(weight)
        old, new = ((t if t.ndim > 1 else t.unsqueeze(0)).movedim(self.axis if t.ndim > 1 else -1, -1)
                    for t in (weight.detach(), changed))
        for part, place in zip(old.split(LINES), new.split(LINES)):
            lines = part.to(wide)
            for read, lift, constant in folds:
                lines = lines + lines @ read.mT @ lift + constant
            place.copy_(lines)
        return changed

    def _pair(self, fold: Affine, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What is read of a line, what is written, and what is added to it."""
        read, lift = (fold.read, fold.lift) if self.side == "output" else (fold.lift, fold.read)
        constant = fold.constant if self.constant else torch.zeros_like(fold.constant)
        return read.to(device, dtype), lift.to(device, dtype), constant.to(device, dtype)


def checked(direction: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """The direction with length one, in float64.

    Raises:
        DirectionError: when it is zero or not finite.
    """
    wide = direction.detach().double().cpu()
    length = wide.norm().item()
    if not 0 < length < math.inf:
        raise DirectionError(f"the direction has length {length}; weights can only be made orthogonal to one "
                             "that is finite and not zero.")
    return wide / length
