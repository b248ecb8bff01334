"""Vectors that repeng and steering-vectors add, by site."""

import re
from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float64
from torch import Tensor

from lenssteer.errors import FileError, MismatchError
from lenssteer.exports.arrays import Arrays
from lenssteer.nearest import unknown
from lenssteer.site import Site

Vectors = dict[Site, Float64[Tensor, " d_model"]]
Modules = Callable[[], Mapping[str, Site]]
LAYER_TYPES = {"decoder_block": "", "self_attn": "self_attn|attn|attention", "mlp": "mlp",
               "input_layernorm": "input_layernorm|ln_1", "post_attention_layernorm": "post_attention_layernorm|ln_2"}
"""What steering-vectors calls the modules whose outputs it moves, and the names they have in a block."""


def repeng_vectors(arrays: Arrays) -> Vectors:
    """The control vector of a GGUF file: `direction.N` is added to the output of block N, counted from 0.

    Raises:
        FileError: when the file holds anything else.

    Source: repeng 0.5, ControlVector.export_gguf; llama.cpp reads the same file the same way.
    """
    found: Vectors = {}
    for name, vector in arrays.named.items():
        prefix, _, layer = name.partition(".")
        if prefix != "direction" or not layer.isdecimal() or vector.ndim != 1:
            raise FileError(f"this is no control vector: it holds {name!r} of shape {list(vector.shape)}; expected "
                            "direction.N, one vector a layer.")
        found[Site(int(layer), "resid_post")] = vector
    return found


def layer_vectors(arrays: Arrays, modules: Modules, sites: Sequence[Site] | None) -> Vectors:
    """Vectors by layer, as steering-vectors holds them in `layer_activations`, with its `layer_type` as a note.

        save_file({str(layer): v for layer, v in sv.layer_activations.items()}, "v.safetensors",
                  {"layer_type": sv.layer_type})

    Names hold the number of the layer; an array [n_layers, d_model] has layer i in row i; a single vector goes to the
    sites that are named.

    Raises:
        FileError: when a name holds no layer, or the layer type is unknown.
        MismatchError: when a layer type is no site of this model.

    Source: steering-vectors 0.12, SteeringVector.
    """
    named = _rows(arrays.named)
    if set(named) == {""}:
        if not sites:
            raise FileError("this file holds one vector and no layer; say where it goes with --sites resid_post.14.")
        return dict.fromkeys(sites, named[""])
    kind = arrays.notes.get("layer_type", "decoder_block")
    if kind not in LAYER_TYPES:
        raise FileError(unknown("layer type", kind, LAYER_TYPES))
    return {_placed(_layer(name), kind, modules): _vector(name, value) for name, value in named.items()}


def _rows(named: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """One array of all layers as one a layer."""
    only = next(iter(named.values()))
    if len(named) == 1 and only.ndim == 2 and len(only) > 1:
        return {str(layer): row for layer, row in enumerate(only)}
    return {"": only.flatten()} if set(named) == {""} else named


def _vector(name: str, value: Tensor) -> Tensor:
    if value.squeeze().ndim != 1:
        raise FileError(f"{name} has shape {list(value.shape)}; expected one vector a layer.")
    return value.squeeze()


def _layer(name: str) -> int:
    numbers = re.findall(r"(?:^|[._/])(\d+)(?=$|[._/])", name)
    if len(numbers) != 1:
        raise FileError(f"cannot tell the layer of {name!r}; expected a name with one number, such as 14 or layers.14.")
    return int(numbers[0])


def _placed(layer: int, kind: str, modules: Modules) -> Site:
    """The site that a layer type is in this very model: Gemma's post_attention_layernorm is attn_out."""
    if kind == "decoder_block":
        return Site(layer, "resid_post")
    found = next((site for name, site in modules().items() if re.search(rf"\.{layer}\.({LAYER_TYPES[kind]})$", name)),
                 None)
    if found is None:
        raise MismatchError(f"this model has no site at the {kind} of layer {layer}.")
    return found
