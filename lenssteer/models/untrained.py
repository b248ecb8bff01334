"""Untrained models of a stated size, for what does not depend on weights: times, memory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenssteer.models.demo import WEIGHTS

VOCABULARY, HEAD_SIZE = 8000, 64


@dataclass(frozen=True)
class Size:
    """A Llama with random weights.

    Args:
        layers: Blocks.
        d_model: Width; a multiple of 64, the size of a head.
        n_ctx: Longest sequence.
    """

    layers: int = 12
    d_model: int = 512
    n_ctx: int = 512

    def __str__(self) -> str:
        return f"random {self.layers}-layer Llama, width {self.d_model}, {VOCABULARY} words"


def random_model(folder: Path, size: Size, dtype: str = "float32") -> Path:
    """Write a random Llama with the demo's tokenizer, which never stops by itself.

    Args:
        folder: Where to.
        size: Of the model.
        dtype: Of the weights.

    Returns:
        The folder.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=size.d_model, intermediate_size=(size.d_model * 8 // 3 + 31) // 32 * 32,
        num_hidden_layers=size.layers, num_attention_heads=size.d_model // HEAD_SIZE,
        max_position_embeddings=size.n_ctx, eos_token_id=None)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(WEIGHTS, local_files_only=True).save_pretrained(folder)
    _without_end(folder / "tokenizer_config.json")
    return folder


def _without_end(path: Path) -> None:
    """Every answer of a benchmark has its full length, so its tokenizer names no token that ends one; prompts are given
    as they are, so that every library reads the same."""
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name in ("eos_token", "chat_template"):
        settings.pop(name, None)
    path.write_text(json.dumps(settings), encoding="utf-8")
    path.with_name("chat_template.jinja").unlink(missing_ok=True)
