"""Which parameters of a checkpoint write to the residual stream, by name and shape.

Every parameter must be known, either as one that writes or as one that does not; an unknown one refuses the whole
checkpoint, since an edit of all but one writer is no edit at all.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from lenssteer.errors import ModelError

Shape = tuple[int, ...]

WRITERS: tuple[tuple[str, str, int], ...] = (
    ("embedding", r"(embed_tokens|wte|embed_in)\.weight", -1),
    ("embedding", r"(embed_positions|wpe)\.weight", -1),
    ("attention", r"(self_attn|attention)\.(o_proj|out_proj|dense)\.(weight|bias)", 0),
    ("mlp", r"(mlp|shared_expert)\.(down_proj|dense_4h_to_h|fc2)\.(weight|bias)", 0),
    ("mlp", r"layers\.\d+\.fc2\.(weight|bias)", 0),
    ("mlp", r"experts\.\d+\.(down_proj|w2)\.weight", 0),
)
"""What it belongs to, how its name ends, and its axis of d_model."""
CONV1D = r"(attn|mlp)\.c_proj\.(weight|bias)"
FUSED = r"experts\.down_proj"
CONV1D_AXIS = {"gpt2": -1, "starcoder2": 0}
"""`c_proj` is stored [in, d_model] by Conv1D and [d_model, in] by Linear; a square one does not say which."""
OUTPUT_FIRST = ("mixtral", "qwen2_moe", "qwen3_moe")
"""Architectures whose fused experts are [experts, d_model, in], also where both are equal."""
POST_NORMS = r"(pre_feedforward|post_feedforward|post_self_attn|post_mlp)_layernorm\.(weight|bias)"
WRITING = ("embedding", "attention", "mlp")
UNEMBEDDING = r"(lm_head|embed_out)\.(weight|bias)"
OTHERS = (
    r"(q|k|v|qkv|gate|up|gate_up)_proj\.(weight|bias)", r"experts\.(gate_up|gate|up)_proj",
    r"(query_key_value|c_attn|c_fc|fc1|dense_h_to_4h|w1|w3)\.(weight|bias)", r"(gate|shared_expert_gate)\.weight",
    r"(input_layernorm|post_attention_layernorm|self_attn_layer_norm|final_layer_?norm|ln_1|ln_2|ln_f|norm|q_norm"
    r"|k_norm)\.(weight|bias)",
    r"rotary_emb\.inv_freq", r"(attn|attention)\.(masked_)?bias", POST_NORMS, UNEMBEDDING,
)


class Place(NamedTuple):
    """What a parameter belongs to: embedding, unembedding, attention, mlp or other; its layer, and its axis of d_model.

    The layer is "" outside the blocks.
    """

    part: str
    layer: str
    axis: int


def places(shapes: Mapping[str, Shape], config: Any) -> dict[str, Place]:
    """Where the parameters that write to the stream are, and the unembedding.

    Args:
        shapes: Every parameter of the checkpoint.
        config: Its Hugging Face config, of the text model.

    Raises:
        ModelError: when a parameter is unknown or of another shape, or a layer lacks a writer.
    """
    found: dict[str, Place] = {}
    unknown: list[str] = []
    for name, shape in shapes.items():
        part, axis = _place(name, shape, config)
        if part in WRITING or part == "unembedding":
            found[name] = Place(part, _layer(name), axis)
        elif part == "":
            unknown.append(name)
    if unknown:
        raise ModelError(f"cannot tell whether {len(unknown)} parameters of this {config.model_type} write to the "
                         f"residual stream, the first is {unknown[0]}; use the steerer, which edits activations.")
    writing = {name: place for name, place in found.items() if place.part in WRITING}
    _require_complete({(place.part, place.layer) for place in writing.values()}, config)
    for name, place in writing.items():
        if shapes[name][place.axis] != config.hidden_size:
            raise ModelError(f"{name} has shape {list(shapes[name])}; expected {config.hidden_size} on axis "
                             f"{place.axis}.")
    return found


def is_tied(config: Any) -> bool:
    """Whether the unembedding is the embedding."""
    return bool(getattr(config, "tie_word_embeddings", False))


def _ends(pattern: str, name: str) -> bool:
    return re.search(rf"(^|\.){pattern}$", name) is not None


def _place(name: str, shape: Shape, config: Any) -> tuple[str, int]:
    """What a parameter belongs to and its axis of d_model; "" where it is unknown."""
    if _ends(UNEMBEDDING, name):
        return "unembedding", -1
    if _ends(CONV1D, name):
        axis = CONV1D_AXIS.get(config.model_type)
        part = "attention" if ".attn." in name else "mlp"
        return (part, axis if name.endswith("weight") else 0) if axis is not None else ("", 0)
    if _ends(FUSED, name):
        return _fused(shape, config)
    for part, pattern, axis in WRITERS:
        if _ends(pattern, name):
            return part, axis
    return ("other", 0) if any(_ends(pattern, name) for pattern in OTHERS) else ("", 0)


def _fused(shape: Shape, config: Any) -> tuple[str, int]:
    if config.model_type in OUTPUT_FIRST:
        return "mlp", -2
    places = [axis for axis in (-2, -1) if shape[axis] == config.hidden_size]
    return ("mlp", places[0]) if len(places) == 1 else ("", 0)


def _layer(name: str) -> str:
    found = re.search(r"(?:^|\.)(?:layers|h)\.(\d+)\.", name)
    return found.group(1) if found else ""


def _require_complete(parts: set[tuple[str, str]], config: Any) -> None:
    expected = {("embedding", ""), *((part, str(layer)) for part in ("attention", "mlp")
                                    for layer in range(config.num_hidden_layers))}
    if parts != expected:
        missing = sorted(f"{part} of layer {layer}" if layer else part for part, layer in expected ^ parts)
        raise ModelError(f"expected an embedding, and attention and MLP outputs of {config.num_hidden_layers} layers; "
                         f"these are missing or too many: {', '.join(missing[:4])}.")


def embedding_name(shapes: Mapping[str, Shape]) -> str:
    """Name of the token embedding."""
    return next(name for name in shapes if _ends(WRITERS[0][1], name))


def refuse_tied() -> NoReturn:
    """Refuse an edit of an embedding that is the unembedding too.

    Raises:
        ModelError: always.
    """
    raise ModelError("the unembedding of this model is its embedding, so editing the embedding changes the logits "
                     "too, and the result is not the steerer at run time. Use untie=True (--untie) to give the "
                     "copy an unembedding of its own, or force=True to edit both.")


def refuse_post_norms(shapes: Mapping[str, Shape], config: Any) -> None:
    """Refuse blocks that norm what their parts write.

    Raises:
        ModelError: when there are such norms.
    """
    if any(_ends(POST_NORMS, name) for name in shapes) or not getattr(config, "do_layer_norm_before", True):
        raise ModelError("this model norms what attention and MLP write before it is added to the stream, and the "
                         "norm's gain brings the direction back. Use the steerer, or force=True to edit the weights "
                         "all the same.")
