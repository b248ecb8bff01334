"""The demo model's shape, and its folder in Hugging Face layout."""

from pathlib import Path
from typing import Any

from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM


def build_model(tokenizer: Any) -> LlamaForCausalLM:
    """An untrained Llama of 8 layers and width 128; untied, so that weights can be orthogonalised."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, tokenizer: Any, folder: Path) -> None:
    """Write the model and its tokenizer in Hugging Face layout."""
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=28,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
