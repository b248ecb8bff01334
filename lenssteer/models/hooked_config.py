"""HookedTransformer from a loaded Hugging Face model: no model names, no hub, no weight processing.

TransformerLens 3.9 takes Llama and Gemma configs from a table of model names and asks the hub for others, so
`from_pretrained` cannot load a local or fine-tuned model. Here the config comes from the model's own config,
and the weights go through TransformerLens' own converters, as in `from_pretrained_no_processing`.

    llama, qwen2, qwen3   rotary positions default, linear or llama3; sliding layers where the config has them
    gemma2                sliding layers, both soft caps
    gemma3_text           sliding layers with their own rotary base; of gemma3 (with vision) the text part
    gpt2

What HookedTransformer would silently compute differently raises ModelError instead. Float32 logits agree with
Hugging Face to 1e-5 on short texts and to 1e-3 at 3000 tokens, where rotary angles round differently, and
bfloat16 logits to its rounding. Past `cfg.n_ctx`, the model's maximum, HookedTransformer raises IndexError.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lenssteer.errors import ModelError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions.gemma import convert_gemma_weights
    from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
    from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
    from transformer_lens.pretrained.weight_conversions.qwen2 import convert_qwen2_weights
    from transformer_lens.pretrained.weight_conversions.qwen3 import convert_qwen3_weights

Weights = dict[str, Tensor]

_SIZES = {
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_vocab": "vocab_size",
    "n_ctx": "max_position_embeddings",
}
_LLAMA = _SIZES | {
    "n_key_value_heads": "num_key_value_heads",
    "d_mlp": "intermediate_size",
    "eps": "rms_norm_eps",
    "act_fn": "hidden_act",
}
_GEMMA3 = _LLAMA | {"act_fn": "hidden_activation", "output_logits_soft_cap": "final_logit_softcapping"}
_GEMMA2 = _GEMMA3 | {"attn_scores_soft_cap": "attn_logit_softcapping"}
_GPT2 = _SIZES | {
    "d_mlp": "n_inner",
    "eps": "layer_norm_epsilon",
    "act_fn": "activation_function",
    "use_attn_scale": "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx": "scale_attn_by_inverse_layer_idx",
}
_RMS = {
    "normalization_type": "RMS",
    "final_rms": True,
    "gated_mlp": True,
    "positional_embedding_type": "rotary",
}
_QK_NORMS = _RMS | {"use_qk_norm": True}
_POST_NORMS = _RMS | {"use_normalization_before_and_after": True}

_ROPE_FIELDS: dict[str, dict[str, str]] = {
    "default": {},
    "linear": {"rotary_scaling_factor": "factor"},
    "llama3": {
        "NTK_by_parts_factor": "factor",
        "NTK_by_parts_low_freq_factor": "low_freq_factor",
        "NTK_by_parts_high_freq_factor": "high_freq_factor",
        "NTK_original_ctx_len": "original_max_position_embeddings",
    },
}
_ATTN_TYPES = {"full_attention": "global", "sliding_attention": "local"}
_ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu")
_REFUSED = ("mlp_bias", "use_bidirectional_attention", "add_cross_attention", "quantization_config")
_BIASES = (*_REFUSED, "attention_bias")
# Caps that Gemma-3 has in its config and transformers 5.23 never applies: on scores; with vision, on logits.
_SCORE_CAP = (*_BIASES, "attn_logit_softcapping")
_ANY_CAP = (*_SCORE_CAP, "final_logit_softcapping")


@dataclass(frozen=True)
class _Architecture:
    """How one `model_type` maps to TransformerLens."""

    model_class: str
    fields: Mapping[str, str]  # TransformerLens field -> attribute of the config
    constants: Mapping[str, Any]
    refused: tuple[str, ...]  # attributes of the config that must be unset
    weights: Callable[[Any, HookedTransformerConfig], Weights]


def _gemma_weights(hf_model: PreTrainedModel, cfg: HookedTransformerConfig) -> Weights:
    """Scale embeddings after the cast; TransformerLens' converter rounds them in the dtype of `hf_model`."""
    embed: Any = hf_model.get_input_embeddings().weight
    scale = torch.tensor(cfg.d_model**0.5, dtype=cfg.dtype)
    return convert_gemma_weights(hf_model, cfg) | {"embed.W_E": embed.to(cfg.dtype) * scale}


_BOTH_NORMS = _QK_NORMS | _POST_NORMS
_ARCHITECTURES = {
    "llama": _Architecture("LlamaForCausalLM", _LLAMA, _RMS, _BIASES, convert_llama_weights),
    "qwen2": _Architecture("Qwen2ForCausalLM", _LLAMA, _RMS, _REFUSED, convert_qwen2_weights),
    "qwen3": _Architecture("Qwen3ForCausalLM", _LLAMA, _QK_NORMS, _BIASES, convert_qwen3_weights),
    "gemma2": _Architecture("Gemma2ForCausalLM", _GEMMA2, _POST_NORMS, _BIASES, _gemma_weights),
    "gemma3_text": _Architecture("Gemma3ForCausalLM", _GEMMA3, _BOTH_NORMS, _SCORE_CAP, _gemma_weights),
    "gemma3": _Architecture("Gemma3ForConditionalGeneration", _GEMMA3, _BOTH_NORMS, _ANY_CAP, _gemma_weights),
    "gpt2": _Architecture("GPT2LMHeadModel", _GPT2, {}, _REFUSED, convert_gpt2_weights),
}


def hooked_config(hf_config: PreTrainedConfig, *, dtype: torch.dtype, device: str) -> HookedTransformerConfig:
    """State the TransformerLens config of a Hugging Face config in full.

    `n_ctx` is the config's own maximum: TransformerLens 3.9 makes its masks per call and its rotary tables as
    they are needed, so a long context costs nothing before it is used.

    Raises:
        ModelError: when HookedTransformer cannot compute such a model: another `model_type`, biases in
            attention or MLP, another rotary scaling, layer type or activation, bidirectional or cross
            attention, quantised weights. It says which backend to use.

    Source: the tables by model name in transformer_lens 3.9.0, `loading_from_pretrained.py`.
    """
    architecture = _ARCHITECTURES.get(hf_config.model_type)
    if architecture is None:
        raise _unsupported(f"model_type {hf_config.model_type!r}")
    config = hf_config.text_config if hf_config.model_type == "gemma3" else hf_config
    _check_features(hf_config, architecture.refused)
    _check_features(config, architecture.refused)
    fields = {name: getattr(config, attribute) for name, attribute in architecture.fields.items()}
    stated = {name: value for name, value in fields.items() if value is not None}
    if stated["act_fn"] not in _ACTIVATIONS:
        raise _unsupported(f"activation {stated['act_fn']!r}")
    return HookedTransformerConfig(
        **{**architecture.constants, **stated, **_attention(config), **_rotary(config)},
        original_architecture=architecture.model_class,
        default_prepend_bos=False,
        init_weights=False,
        dtype=dtype,
        device=device,
    )


def to_hooked(
    hf_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, *, dtype: torch.dtype, device: str
) -> HookedTransformer:
    """Copy a loaded Hugging Face causal LM into a HookedTransformer with raw weights, offline.

    Args:
        hf_model: Any local or fine-tuned model of a supported architecture; neither changed nor shared.
        tokenizer: Copied for TransformerLens' own text functions, which then pad right, prepend no BOS unless
            asked, and pad with EOS where there is no pad token. None leaves the model without a tokenizer.
        dtype: Dtype of the copy.
        device: Device of the copy.

    Returns:
        The model in eval mode, equal to what `from_pretrained_no_processing` gives for models it knows.

    Raises:
        ModelError: when HookedTransformer cannot hold this model; see `hooked_config`.
    """
    cfg = hooked_config(hf_model.config, dtype=dtype, device=device)
    architecture = _ARCHITECTURES[hf_model.config.model_type]
    _check_class(hf_model, architecture.model_class)
    with torch.no_grad():
        weights = architecture.weights(hf_model, cfg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedTransformer(cfg, tokenizer=None)  # given one, it would reload or change it
    _load(model, weights)
    if tokenizer is not None:
        model.tokenizer = _own_tokenizer(tokenizer)
        model.cfg.tokenizer_prepends_bos = len(tokenizer.encode("")) > 0
    return model.eval()


def _unsupported(what: str) -> ModelError:
    return ModelError(
        f"HookedTransformer is not built for {what}; supported are {', '.join(_ARCHITECTURES)}, each in its "
        'plain form. Load it with backend="bridge" (or backend="hf") instead.'
    )


def _check_features(config: PreTrainedConfig, refused: tuple[str, ...]) -> None:
    for name in refused:
        if value := getattr(config, name, None):
            raise _unsupported(f"a {config.model_type} model with {name}={value!r}")


def _check_class(hf_model: PreTrainedModel, expected: str) -> None:
    """Refuse wrappers: the converters read weights by attribute, and would drop adapters without a word."""
    if expected not in {base.__name__ for base in type(hf_model).__mro__}:
        raise _unsupported(f"a {type(hf_model).__name__} (expected {expected})")
    if getattr(hf_model, "_hf_peft_config_loaded", False):
        raise ModelError("the model carries PEFT adapters, which HookedTransformer cannot hold; merge them.")


def _attention(config: PreTrainedConfig) -> dict[str, Any]:
    """Width of a head, scale of the scores, and which layers slide over how long a window."""
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    scalar = getattr(config, "query_pre_attn_scalar", None)
    fields = {"d_head": d_head} | ({} if scalar is None else {"attn_scale": scalar**0.5})
    types = getattr(config, "layer_types", None) or []
    if unknown := sorted(set(types) - set(_ATTN_TYPES)):
        raise _unsupported(f"a {config.model_type} model with layer_types {unknown}")
    if "sliding_attention" not in types:
        return fields
    local = [_ATTN_TYPES[name] for name in types]
    return fields | {"use_local_attn": True, "window_size": config.sliding_window, "attn_types": local}


def _rotary(config: PreTrainedConfig) -> dict[str, Any]:
    """Rotary bases and scaling; Gemma-3 gives its sliding layers a set of their own."""
    parameters = getattr(config, "rope_parameters", None)
    if not parameters:
        return {}
    if local := parameters.get("sliding_attention"):
        _scaling(config, local, ("default",))
        fields = _scaling(config, parameters["full_attention"], ("default", "linear"))
        return fields | {"rotary_base_local": local["rope_theta"]}
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or [])
    # HookedTransformer scales linearly in global layers only, Hugging Face in all of them.
    return _scaling(config, parameters, ("default", "llama3") if slides else tuple(_ROPE_FIELDS))


def _scaling(config: PreTrainedConfig, rope: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, Any]:
    kind = rope.get("rope_type", "default")
    if kind not in allowed or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _unsupported(f"a {config.model_type} model with rotary positions {dict(rope)}")
    fields = {name: rope[key] for name, key in _ROPE_FIELDS[kind].items()}
    return fields | {"rotary_base": rope["rope_theta"], "use_NTK_by_parts_rope": kind == "llama3"}


def _load(model: HookedTransformer, weights: Weights) -> None:
    """Copy the weights in, and insist that every parameter got one; GPT-2's absent output bias stays zero."""
    outcome = model.load_state_dict(weights, strict=False)
    parameters = {name for name, _ in model.named_parameters()} - {"unembed.b_U"}
    if wrong := sorted(parameters & set(outcome.missing_keys)) + list(outcome.unexpected_keys):
        raise ModelError(f"TransformerLens' converter and its model disagree on {', '.join(wrong)}.")


def _own_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    own = copy.deepcopy(tokenizer)
    own.padding_side = "right"  # left makes forward() guess a mask from the pad id, and mask real tokens
    own.name_or_path = ""  # to_str_tokens() fails on text when the path has "gemma" in it
    if own.pad_token is None:
        own.pad_token = own.eos_token
    return own
