"""Passes that run a row once up to a layer, and copies of it from there on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

ARCHITECTURES = ("Gemma2ForCausalLM", "Gemma3ForCausalLM", "GPT2LMHeadModel", "LlamaForCausalLM", "MistralForCausalLM",
                 "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Models whose blocks are given all that depends on the row; each is tested. Others are never forked."""
KERNELS = ("eager", "sdpa")
"""Attention that takes its mask as a tensor with one entry a row."""


def can_fork(model: Any, cache: Any) -> bool:
    """Whether a Hugging Face model and its cache are of a kind that is known to fork rightly."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    config = model.config.get_text_config()
    return (type(model).__name__ in ARCHITECTURES and config._attn_implementation in KERNELS
            and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers))


@contextmanager
def forked(blocks: nn.ModuleList, layer: int, copies: Int[Tensor, " batch"], cache: Any) -> Iterator[None]:
    """In this block a pass takes few rows below a layer and `copies` of them from there on.

    The cache of the layers below is copied too, so that later passes find all rows in it. The hooks are gone
    afterwards, also after an exception.

    Args:
        blocks: Of the model, in order.
        layer: First layer with all rows.
        copies: Which of the few rows each row is.
        cache: Given to the pass, empty.
    """
    fork = _Fork(copies)

    def enter(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for below in cache.layers[:layer]:
            below.batch_select_indices(copies.to(below.keys.device))
        return fork.all(args), {name: fork.all(value) for name, value in kwargs.items()}

    def beside_hidden(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kept = {name: value if name == "hidden_states" else fork.all(value) for name, value in kwargs.items()}
        return (*args[:1], *fork.all(args[1:])), kept

    handles = [block.register_forward_pre_hook(enter if k == layer else beside_hidden, prepend=True, with_kwargs=True)
               for k, block in enumerate(blocks) if k >= layer]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Fork:
    """Copies the rows of what depends on the row; what several blocks are given is copied once."""

    def __init__(self, copies: Int[Tensor, " batch"]) -> None:
        self.copies = copies
        self.few = int(copies.max()) + 1
        self._done: dict[int, tuple[Tensor, Tensor]] = {}

    def all(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self.all(part) for part in value)
        if not isinstance(value, torch.Tensor) or value.ndim < 2 or len(value) != self.few:
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value, value[self.copies.to(value.device)]
        return self._done[id(value)][1]
