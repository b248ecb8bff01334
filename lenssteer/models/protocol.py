"""What a backend must offer, and the card that identifies a model."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenssteer.site import Site, Stream

Frame = Literal["raw", "folded"]
Keep = Literal["last", "all"]
Edit = Callable[[Tensor], Tensor | None]
Detach = Callable[[], None]
FINGERPRINT_VALUES = 4096


@dataclass(frozen=True)
class ModelCard:
    """What an artefact records of a model, and what it checks before it is used on one.

    Args:
        name: Folder name or hub id it was loaded from.
        architecture: Hugging Face class name.
        backend: "hooked", "bridge" or "hf".
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        n_ctx: Longest sequence.
        frame: "raw" weights, or "folded" ones, whose activations have other coordinates.
        fingerprint: Hash of some weights, the same on every backend and dtype; "" where it cannot be known.
    """

    name: str
    architecture: str
    backend: str
    n_layers: int
    d_model: int
    n_ctx: int
    frame: Frame = "raw"
    fingerprint: str = ""


@runtime_checkable
class Sited(Protocol):
    """What a steerer can be compared with: a LensModel, or an engine elsewhere."""

    @property
    def card(self) -> ModelCard:
        """What identifies the model."""
        ...

    def check_site(self, site: Site) -> None:
        """Refuse a site the model does not have.

        Raises:
            SiteError: with the layers and streams it has.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """A causal language model with named sites; every method is a thin layer over one library."""

    card: ModelCard
    streams: tuple[Stream, ...]
    device: torch.device

    def attach(self, site: Site, edit: Edit) -> Detach:
        """Call `edit` on the activation at a site, and use what it returns unless that is None."""
        ...

    def new_cache(self, batch: int) -> Any:
        """An empty key-value cache."""
        ...

    def take_rows(self, cache: Any, index: Int[Tensor, " picked"]) -> Any:
        """The cache of some rows; the one given may not be used afterwards."""
        ...

    def fork(self, layer: int, copies: Int[Tensor, " batch"], cache: Any) -> AbstractContextManager[None] | None:
        """A block in which a pass takes few rows below a layer and `copies` of them from there on; None where this
        backend, model or cache cannot."""
        ...

    def forward(
        self,
        ids: Int[Tensor, "batch chunk"],
        mask: Bool[Tensor, "batch seen"],
        cache: Any = None,
        keep: Keep = "last",
    ) -> Float[Tensor, "rows kept vocab"]:
        """Logits of the last or of all columns of `ids`, which continue what the cache holds; in a `fork`, of all its
        rows."""
        ...


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Sixteen hex digits that identify a checkpoint whatever the dtype it is loaded in.

    The signs of up to 4096 evenly spaced values of every tensor are hashed in the order of their names: no rounding
    changes a sign, not even to zero.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        flat = weights[name].detach().reshape(-1)
        signs = torch.signbit(flat[:: max(1, flat.numel() // FINGERPRINT_VALUES)]).cpu()
        digest.update(name.encode() + bytes(signs.tolist()))
    return digest.hexdigest()[:16]
