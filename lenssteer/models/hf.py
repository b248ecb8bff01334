"""Plain transformers with torch hooks: the fast path.

`resid_mid` has no module of its own: it is the input of the norm before the MLP, and the block has kept the same
tensor for its skip connection. An edit there is therefore written in place, with gradients off.
"""

import inspect
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lenssteer.errors import ModelError, SteeringError
from lenssteer.models.forking import can_fork, forked
from lenssteer.models.placing import Weights, input_device
from lenssteer.models.protocol import Detach, Edit, Keep, ModelCard, fingerprint
from lenssteer.site import STREAMS, Site, Stream

BLOCK_LISTS = ("model.layers", "transformer.h", "gpt_neox.layers", "model.language_model.layers",
               "model.decoder.layers")
MODULES: dict[Stream, tuple[str, ...]] = {
    "ln1_out": ("input_layernorm", "ln_1"),
    "attn_out": ("self_attn", "attn", "attention"),
    "ln2_out": ("post_attention_layernorm", "ln_2"),
    "mlp_out": ("mlp",),
}
"""Where a block keeps a stream: the first of these modules that it has."""
SANDWICH: dict[Stream, str] = {
    "attn_out": "post_attention_layernorm", "ln2_out": "pre_feedforward_layernorm",
    "mlp_out": "post_feedforward_layernorm",
}
"""Where Gemma-like blocks, with norms before and after each part, keep the same streams."""


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks of a Hugging Face model.

    Raises:
        ModelError: when they are not in a place lenssteer knows.
    """
    for path in BLOCK_LISTS:
        try:
            return model.get_submodule(path)  # type: ignore[return-value]
        except AttributeError:
            continue
    raise ModelError(f"cannot find the blocks of {type(model).__name__}; looked at {', '.join(BLOCK_LISTS)}.")


def _module(block: nn.Module, stream: Stream) -> nn.Module | None:
    children = dict(block.named_children())
    sandwich = "pre_feedforward_layernorm" in children
    if sandwich and stream in SANDWICH:
        return children.get(SANDWICH[stream])
    return next((children[name] for name in MODULES[stream] if name in children), None)


def _is_sequential(block: nn.Module) -> bool:
    """Whether the MLP reads the stream that attention wrote, so that there is a resid_mid."""
    return not getattr(block, "use_parallel_residual", False)


def streams_of(block: nn.Module) -> tuple[Stream, ...]:
    """The streams a block has modules for."""
    found: dict[Stream, bool] = {stream: _module(block, stream) is not None for stream in MODULES}
    found |= {"resid_pre": True, "resid_post": True, "resid_mid": found["ln2_out"] and _is_sequential(block)}
    return tuple(stream for stream in STREAMS if found[stream])


def on_output(module: nn.Module, edit: Edit) -> Detach:
    """Edit what a module returns, or the first of what it returns."""

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        new = edit(tensor)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return module.register_forward_hook(hook).remove


def on_input(module: nn.Module, edit: Edit, *, in_place: bool = False) -> Detach:
    """Edit the hidden states a module is given; in place where the caller keeps using the same tensor."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor = args[0] if args else kwargs["hidden_states"]
        new = edit(tensor)
        if new is None:
            return None
        if in_place:
            write_in_place(tensor, new)
            return None
        return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

    return module.register_forward_pre_hook(hook, with_kwargs=True).remove


def write_in_place(tensor: Tensor, new: Tensor) -> None:
    """Write an edited resid_mid into the tensor its block goes on using.

    Raises:
        SteeringError: when gradients are on, since autograd would refuse or be wrong.
    """
    if torch.is_grad_enabled():
        raise SteeringError("resid_mid is edited in place, which needs torch.no_grad(); "
                            "edit attn_out or resid_pre where you want gradients.")
    tensor.copy_(new)


@cache
def _can_keep_logits(kind: type) -> bool:
    """Whether a model class computes the logits of chosen columns only; looked up once, not at every token."""
    return "logits_to_keep" in inspect.signature(kind.forward).parameters


def hf_forward(
    model: Any, ids: Int[Tensor, "batch chunk"], mask: Bool[Tensor, "batch seen"], cache: Any, keep: Keep
) -> Float[Tensor, "rows kept vocab"]:
    """One pass with explicit mask and positions; only the last column's logits are computed when only they are kept."""
    positions = (mask.long().cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
    arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": cache is not None}
    if keep == "last" and _can_keep_logits(type(model)):
        arguments["logits_to_keep"] = 1
    logits = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions, **arguments).logits
    return logits[:, -1:] if keep == "last" else logits


def hf_cache(model: Any) -> Any:
    """An empty cache that knows the model's sliding windows."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config.get_text_config())


def hf_take_rows(cache: Any, index: Int[Tensor, " picked"]) -> Any:
    """Some rows of a cache."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.batch_select_indices(index.to(layer.keys.device))
    return cache


def hf_card(model: Any, name: str, backend: str) -> ModelCard:
    """The card of a Hugging Face model."""
    config = model.config.get_text_config()
    n_ctx = int(getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0) or 1 << 30)
    return ModelCard(name, type(model).__name__, backend, config.num_hidden_layers, config.hidden_size, n_ctx,
                     fingerprint=fingerprint(Weights(model)))


class HfBackend:
    """A Hugging Face causal language model, hooked with torch alone."""

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.card = hf_card(model, name, "hf")
        self.blocks = blocks_of(model)
        self.streams = streams_of(self.blocks[0])
        self.device = input_device(model)

    def attach(self, site: Site, edit: Edit) -> Detach:
        block = self.blocks[site.layer]
        if site.stream == "resid_pre":
            return on_input(block, edit)
        if site.stream == "resid_post":
            return on_output(block, edit)
        if site.stream == "resid_mid":
            return on_input(self._part(block, "ln2_out"), edit, in_place=True)
        return on_output(self._part(block, site.stream), edit)

    def _part(self, block: nn.Module, stream: Stream) -> nn.Module:
        module = _module(block, stream)
        if module is None:
            raise ModelError(f"{self.card.architecture} has no {stream}; it has {', '.join(self.streams)}.")
        return module

    def new_cache(self, batch: int) -> Any:
        return hf_cache(self.model)

    def take_rows(self, cache: Any, index: Int[Tensor, " picked"]) -> Any:
        return hf_take_rows(cache, index)

    def fork(self, layer: int, copies: Int[Tensor, " batch"], cache: Any) -> AbstractContextManager[None] | None:
        return forked(self.blocks, layer, copies, cache) if can_fork(self.model, cache) else None

    def forward(
        self,
        ids: Int[Tensor, "batch chunk"],
        mask: Bool[Tensor, "batch seen"],
        cache: Any = None,
        keep: Keep = "last",
    ) -> Float[Tensor, "rows kept vocab"]:
        return hf_forward(self.model, ids, mask, cache, keep)


