"""TransformerBridge (TransformerLens 3.x and 4.x): the Hugging Face model itself, with hook points on its parts.

Passes go through the wrapped Hugging Face model, on which the Bridge's hooks fire; masks, positions and caches then
mean the same as on plain transformers. `hook_resid_mid` of the Bridge is only the input of the MLP's norm, so a
tensor returned there would change the MLP branch alone; an edit at resid_mid is written in place instead.
"""

from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from lenssteer.errors import ModelError
from lenssteer.models.forking import can_fork, forked
from lenssteer.models.hf import blocks_of, hf_cache, hf_card, hf_forward, hf_take_rows, write_in_place
from lenssteer.models.placing import input_device
from lenssteer.models.points import attach_to_point
from lenssteer.models.protocol import Detach, Edit, Keep, ModelCard
from lenssteer.site import STREAMS, Site, Stream

POINTS: dict[Stream, tuple[str, ...]] = {
    "resid_pre": ("hook_resid_pre", "hook_in"),
    "ln1_out": ("ln1.hook_out",),
    "attn_out": ("hook_attn_out",),
    "resid_mid": ("ln2.hook_in",),
    "ln2_out": ("ln2.hook_out",),
    "mlp_out": ("hook_mlp_out",),
    "resid_post": ("hook_resid_post", "hook_out"),
}


def boot(hf_model: Any, tokenizer: Any, name: str) -> "BridgeBackend":
    """Wrap a Hugging Face model, which is rewired in place and must not be used by itself afterwards.

    The Bridge writes a BOS token into a tokenizer that has none, so it is given a copy.

    Raises:
        ModelError: when the Bridge cannot wrap it, for example since weights wait on disk.
    """
    card = hf_card(hf_model, name, "bridge")
    try:
        bridge = TransformerBridge.boot_transformers(name, hf_model=hf_model, tokenizer=deepcopy(tokenizer),
                                                     device=str(input_device(hf_model)), dtype=hf_model.dtype)
    except ValueError as error:
        raise ModelError(f"TransformerBridge cannot wrap this model: {str(error).splitlines()[0]} Use backend 'hf', "
                         "which also takes weights that wait in memory or on disk.") from error
    return BridgeBackend(bridge.eval(), card)


class BridgeBackend:
    """TransformerBridge behind the backend protocol."""

    def __init__(self, bridge: TransformerBridge, card: ModelCard) -> None:
        self.model = bridge
        self.card = card
        self.points: dict[str, Any] = dict(bridge.hook_dict)
        self.device: torch.device = input_device(bridge.original_model)
        self.streams: tuple[Stream, ...] = tuple(stream for stream in STREAMS if self._point(Site(0, stream)))

    def _point(self, site: Site) -> Any | None:
        names = (f"blocks.{site.layer}.{base}" for base in POINTS[site.stream])
        return next((self.points[name] for name in names if name in self.points), None)

    def attach(self, site: Site, edit: Edit) -> Detach:
        return attach_to_point(self._point(site), _in_place(edit) if site.stream == "resid_mid" else edit)

    def new_cache(self, batch: int) -> Any:
        return hf_cache(self.model.original_model)

    def take_rows(self, cache: Any, index: Int[Tensor, " picked"]) -> Any:
        return hf_take_rows(cache, index)

    def fork(self, layer: int, copies: Int[Tensor, " batch"], cache: Any) -> AbstractContextManager[None] | None:
        original = self.model.original_model
        return forked(blocks_of(original), layer, copies, cache) if can_fork(original, cache) else None

    def forward(
        self,
        ids: Int[Tensor, "batch chunk"],
        mask: Bool[Tensor, "batch seen"],
        cache: Any = None,
        keep: Keep = "last",
    ) -> Float[Tensor, "rows kept vocab"]:
        return hf_forward(self.model.original_model, ids, mask, cache, keep)


def _in_place(edit: Edit) -> Edit:
    def edited(tensor: Tensor) -> None:
        new = edit(tensor)
        if new is not None:
            write_in_place(tensor, new)

    return edited


def bridge_card(bridge: TransformerBridge) -> ModelCard:
    """The card of a Bridge somebody else booted; its checkpoint is not known."""
    cfg = bridge.cfg
    folded = bool(getattr(bridge, "_weights_processed", False))
    return ModelCard(str(cfg.model_name), str(cfg.architecture), "bridge", cfg.n_layers, cfg.d_model, cfg.n_ctx,
                     frame="folded" if folded else "raw")
