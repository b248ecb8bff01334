"""Gates: conditions on activations that decide whether a row, or a token, is steered.

A condition compares an activation with a vector; `&`, `|` and `~` build rules of conditions. Scope "prompt" decides
once a row, from the pass that holds its prompt, and keeps the decision for the whole answer; scope "token" decides for
every token of every pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.nearest import unknown
from lenssteer.site import Site

Similarity = Literal["cosine", "abs_cosine", "tanh_cosine", "projection"]
CHOICES: dict[str, tuple[str, ...]] = {
    "similarity": get_args(Similarity), "pool": ("mean", "last"), "scope": ("prompt", "token"),
}


class Gate(ABC):
    """A rule of conditions; immutable."""

    @property
    @abstractmethod
    def conditions(self) -> "tuple[Condition, ...]":
        """The conditions it is built of, each once."""

    @abstractmethod
    def holds(self, met: "Mapping[Condition, Bool[Tensor, 'batch chunk']]") -> Bool[Tensor, "batch chunk"]:
        """Where the rule holds, given where each condition does."""

    def __and__(self, other: "Gate") -> "Gate":
        return Rule("and", (self, other))

    def __or__(self, other: "Gate") -> "Gate":
        return Rule("or", (self, other))

    def __invert__(self) -> "Gate":
        return Rule("not", (self,))


@dataclass(frozen=True, eq=False)
class Rule(Gate):
    """`a & b`, `a | b` or `~a`."""

    kind: Literal["and", "or", "not"]
    parts: tuple[Gate, ...]

    def __str__(self) -> str:
        if self.kind == "not":
            return f"not ({self.parts[0]})"
        return f" {self.kind} ".join(f"({part})" for part in self.parts)

    @property
    def conditions(self) -> "tuple[Condition, ...]":
        return tuple(dict.fromkeys(condition for part in self.parts for condition in part.conditions))

    def holds(self, met: "Mapping[Condition, Bool[Tensor, 'batch chunk']]") -> Bool[Tensor, "batch chunk"]:
        first, *others = (part.holds(met) for part in self.parts)
        if self.kind == "not":
            return ~first
        for other in others:
            first = first & other if self.kind == "and" else first | other
        return first


@dataclass(frozen=True, eq=False)
class Condition(Gate):
    """Whether an activation is like a vector.

        cosine        c.h / |c| |h|
        abs_cosine    | c.h | / |c| |h|            = cosine of h and its projection on c
        tanh_cosine   cosine of h and tanh(p)      p = (c.h / c.c) c, as the authors' code has it
        projection    c.h / |c|

    It is met where the similarity is strictly above (or below) the threshold; an activation of length zero has
    cosine 0.

    Args:
        site: Where h is read, before any edit of the same steerer.
        vector: c, of any length but zero, [d_model].
        threshold: In units of the similarity.
        similarity: One of the four above.
        above: Whether it is met above the threshold, rather than below.
        pool: h is the mean over the real prompt tokens, or the last prompt token; of no effect in scope "token".
        scope: "prompt" decides once a row, "token" for every token.
        f1: On the activations the threshold was fitted on; None where it was given.

    Raises:
        ParameterError: when an option is unknown, the vector is zero, or a number is not finite.

    Source: Lee et al. 2024, arXiv:2409.05907 (CAST). Departs from the authors' code: every row is decided by itself,
    the cosine keeps its sign unless asked not to, and `above` says on which side it is met.
    """

    site: Site
    vector: Float[Tensor, " d_model"]
    threshold: float | int
    similarity: str = "cosine"
    above: bool = True
    pool: str = "mean"
    scope: str = "prompt"
    f1: float | None = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ParameterError(unknown(name, getattr(self, name), choices))
        if not torch.isfinite(self.vector).all() or not self.vector.any():
            raise ParameterError(f"the vector of the condition at {self.site} is zero or not finite.")
        if not abs(self.threshold) < float("inf"):
            raise ParameterError(f"threshold={self.threshold}: expected a finite number.")

    def __str__(self) -> str:
        read = f"prompt {self.pool}" if self.scope == "prompt" else "token"
        return f"{self.similarity} at {self.site} of {read} {'>' if self.above else '<'} {self.threshold:.4g}"

    @property
    def conditions(self) -> "tuple[Condition, ...]":
        return (self,)

    def holds(self, met: "Mapping[Condition, Bool[Tensor, 'batch chunk']]") -> Bool[Tensor, "batch chunk"]:
        return met[self]

    def to(self, device: torch.device, dtype: torch.dtype) -> "Condition":
        """The same condition with its vector elsewhere."""
        return replace(self, vector=self.vector.to(device, dtype))

    def value(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """The similarity, in the dtype of the vector.

        Raises:
            ShapeError: when d_model disagrees.
        """
        if h.shape[-1] != len(self.vector):
            raise ShapeError(f"the condition is for d_model {len(self.vector)}, the activation has {h.shape[-1]}.")
        h = h.to(self.vector.dtype)
        unit = self.vector / self.vector.norm()
        projection = h @ unit
        if self.similarity == "projection":
            return projection
        if self.similarity == "tanh_cosine":
            return torch.cosine_similarity(h, torch.tanh(projection.unsqueeze(-1) * unit), dim=-1, eps=1e-30)
        cosine = projection / h.norm(dim=-1).clamp_min(1e-30)
        return cosine.abs() if self.similarity == "abs_cosine" else cosine

    def met(self, h: Float[Tensor, "*batch d_model"]) -> Bool[Tensor, "*batch"]:
        """Whether it is met by activations that are already pooled."""
        return self.is_side(self.value(h))

    def is_side(self, value: Float[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
        """Whether a similarity lies on its side of the threshold; one that is not a number lies on none."""
        return value > self.threshold if self.above else value < self.threshold
