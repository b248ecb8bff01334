"""A model folder described without loading it: card, tokenizer and stop tokens, for engines that load it elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lenssteer.errors import ModelError
from lenssteer.models.checkpoint import Checkpoint
from lenssteer.models.protocol import FINGERPRINT_VALUES, ModelCard, fingerprint


@dataclass(frozen=True, eq=False)
class Described:
    """What a folder in Hugging Face layout says of its model.

    Args:
        folder: Where it is.
        card: As the other backends make it; its fingerprint is read from the safetensors.
        tokenizer: Its Hugging Face tokenizer.
        stop_ids: Tokens that end an answer.
        head_size: Width of an attention head.
    """

    folder: Path
    card: ModelCard
    tokenizer: Any
    stop_ids: frozenset[int]
    head_size: int


def describe(name: str | Path, backend: str) -> Described:
    """Read all of a model but its weights, of which no more is held than one tensor.

    Args:
        name: "demo", "demo-chat", a local folder or a hub id.
        backend: What the card says of it.

    Raises:
        ModelError: when there is no such model, or it is not a causal language model.
        FileError: when a file of it is absent or damaged.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    checkpoint = Checkpoint.open(name)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(checkpoint.config)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"cannot read {checkpoint.folder}: {str(error).splitlines()[0]}") from error
    sources = [tokenizer, checkpoint.config]
    if (checkpoint.folder / "generation_config.json").is_file():
        sources.append(GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True))
    config = checkpoint.config
    n_ctx = int(getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0) or 1 << 30)
    card = ModelCard(str(name), type(model).__name__, backend, config.num_hidden_layers, config.hidden_size, n_ctx,
                     fingerprint=_fingerprint(checkpoint, model))
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Described(checkpoint.folder, card, tokenizer, stop_ids(sources), head_size)


def stop_ids(sources: Iterable[Any]) -> frozenset[int]:
    """Every token that ends an answer, by a tokenizer, a config or a generation config."""
    found: set[int] = set()
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return frozenset(found)


def _fingerprint(checkpoint: Checkpoint, model: Any) -> str:
    """The fingerprint of the loaded weights; "" where the checkpoint does not name them as the model does."""
    model.tie_weights()
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    prefix = model.base_model_prefix + "."
    stored = {name if name in shapes else prefix + name: name for name in checkpoint.shapes}
    if any(name not in stored or checkpoint.shapes[stored[name]] != shape for name, shape in shapes.items()):
        return ""
    signs: dict[str, Tensor] = {}
    wanted = {stored[name]: name for name in shapes}
    for shard in checkpoint.shards:
        with safe_open(checkpoint.folder / shard, framework="pt") as tensors:
            for name in set(tensors.keys()) & set(wanted):
                flat = tensors.get_tensor(name).reshape(-1)
                # Every so many of these values is every so many of all: the step of the fingerprint is 1 here.
                signs[wanted[name]] = flat[:: max(1, flat.numel() // FINGERPRINT_VALUES)].clone()
    return fingerprint(signs)
