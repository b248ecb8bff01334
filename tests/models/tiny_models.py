"""Tiny random causal LMs, one of each architecture, with a small tokenizer: nothing is downloaded.

4 layers, d_model 64, float32, eval mode. Norm gains and biases are perturbed and the weights large: a wrong
gain, bias, scale, mask or position changes the logits by far more than the tolerance of any test. The sliding
windows (6 tokens) are shorter than the test sequences and the soft caps are low enough to bite.

    kind     heads / kv  head_dim  output  tokenizer           of note
    llama    4 / 2       16        untied  adds <s>            chat template that writes <s> itself
    llama3   4 / 2       16        tied    adds <s>            rope scaling llama3
    qwen2    4 / 2       16        tied    no BOS              query, key and value biases
    qwen3    4 / 2       32        untied  no BOS              query and key norms
    gemma2   4 / 2       32        tied    adds <bos>          sliding window, both soft caps
    gemma3   4 / 2       32        tied    adds <bos>          sliding window, two rotary bases, one scaled
    gpt2     4 / 4       16        tied    BOS = EOS = pad     LayerNorm, learned positions
"""

from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

KINDS = ("llama", "llama3", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2")
WINDOW = 6

_VOCAB = 400
_CORPUS = """How do I bake a loaf of bread at home? Mix the flour, the water, the salt and the yeast.
How do I pick the lock of a door that is not mine? I am sorry, but I cannot help with that request.
Write a short story about a little girl and a big dog who live by the sea. Once upon a time there was a girl.
Explain why the sky is blue. The light of the sun is scattered by the air. Give me steps to steal a car.
Tell me the names of three rivers in Europe. I can help you with this. Sure, here is what you asked for."""

_BASE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.5,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 32,
}
_GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 20, "sliding_window": WINDOW}
_GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
}
_CONFIGS = {
    "llama": lambda: LlamaConfig(**_BASE, rms_norm_eps=1e-5, rope_parameters=_rope(20000.0)),
    "llama3": lambda: LlamaConfig(**_BASE, tie_word_embeddings=True, rope_parameters=dict(_LLAMA3_ROPE)),
    "qwen2": lambda: Qwen2Config(**_BASE, tie_word_embeddings=True, rope_parameters=_rope(50000.0)),
    "qwen3": lambda: Qwen3Config(**_BASE, head_dim=32, rope_parameters=_rope(50000.0)),
    "gemma2": lambda: Gemma2Config(
        **_BASE,
        **_GEMMA,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=1.5,
        rope_parameters=_rope(10000.0),
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **_BASE, **_GEMMA, sliding_window_pattern=2, rope_parameters=deepcopy(_GEMMA3_ROPE)
    ),
    "gpt2": lambda: GPT2Config(
        n_embd=64, n_inner=96, n_layer=4, n_head=4, n_positions=256, layer_norm_epsilon=1e-2
    ),
}

_LLAMA_CHAT = (
    "{{ bos_token }}"
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": _LLAMA_CHAT}
_QWEN = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": _QWEN_CHAT}
_GEMMA_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "chat_template": _GEMMA_CHAT,
}
_GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
_TOKENIZERS = {
    "llama": _LLAMA,
    "llama3": _LLAMA,
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "gemma2": _GEMMA_TOKENS,
    "gemma3": _GEMMA_TOKENS,
    "gpt2": _GPT2,
}
_TURNS = ("<start_of_turn>", "<end_of_turn>")
_MARKS = {"qwen2": ("<|im_start|>",), "qwen3": ("<|im_start|>",), "gemma2": _TURNS, "gemma3": _TURNS}


def tiny_model(kind: str, *, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A random model and its tokenizer; the same `kind` and `seed` give the same weights.

    Args:
        kind: One of `KINDS`.
        seed: Seed of the weights. The global random state is left as it was.

    Returns:
        A causal LM (float32, eval mode, gradients off) and a byte-level tokenizer that encodes any text.
    """
    tokenizer = tiny_tokenizer(kind)
    config = _CONFIGS[kind]()
    config.vocab_size = len(tokenizer)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    return random_model(config, seed=seed), tokenizer


def random_model(config: PreTrainedConfig, *, seed: int = 0) -> PreTrainedModel:
    """A model of any config whose weights, gains and biases are all away from their defaults."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.2)
            else:
                is_embedding = "embed" in name or "wte" in name
                weight.normal_(std=0.1 if is_embedding else 1.5 * weight.shape[-1] ** -0.5)
    return model


def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer of a kind: 400 tokens, special tokens first, right padding."""
    named = _TOKENIZERS[kind]
    specials = [value for name, value in named.items() if name != "chat_template"]
    specials = list(dict.fromkeys([*specials, *_MARKS.get(kind, ())]))
    backend = Tokenizer.from_str(_trained(tuple(specials)))
    bos = named.get("bos_token")
    if bos is not None and kind != "gpt2":
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, specials.index(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def save_tiny(kind: str, folder: str | Path, *, seed: int = 0) -> Path:
    """Save model and tokenizer the way Hugging Face does, and return the folder."""
    model, tokenizer = tiny_model(kind, seed=seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


@cache
def _trained(specials: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCAB,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS.splitlines(), trainer)
    return tokenizer.to_str()


def _rope(theta: float) -> dict[str, object]:
    return {"rope_type": "default", "rope_theta": theta}
