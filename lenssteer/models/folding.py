"""Steering as a change of weights: which stored tensors change when activations at sites are edited, and how.

    resid_pre.0           embedding                        W_E' = W_E (I + lift^T read)^T + constant
    attn_out, mlp_out     what attention and MLP write     W' = (I + lift^T read) W, b' likewise + constant
    ln1_out, ln2_out      what reads the norm              W' = W (I + lift^T read)
    other resid sites     the write before, for constants  b' = b + constant

A linear change of the stream itself is in no single weight. The one exception needs no weight at all: to take a
direction out where nothing before has written along it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lenssteer.errors import ModelError, ShapeError, SteeringError
from lenssteer.models.affine import SAME, Affine, Change
from lenssteer.models.checkpoint import UNTIED
from lenssteer.models.writers import (
    Place,
    Shape,
    embedding_name,
    is_tied,
    places,
    refuse_post_norms,
    refuse_tied,
)
from lenssteer.site import Site

PLAIN_BLOCKS = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "starcoder2")
"""Architectures whose blocks add to the stream exactly what their parts write, and read a norm by linear maps alone."""
READERS = {"ln1_out": r"(self_attn|attn|attention)\.(q_proj|k_proj|v_proj|c_attn|query_key_value)\.weight$",
           "ln2_out": r"mlp\.(gate_proj|up_proj|c_fc|dense_h_to_4h)\.weight$"}
SWITCHES = {"llama": {"attention": "attention_bias", "mlp": "mlp_bias"}, "qwen3": {"attention": "attention_bias"}}
"""Where a config may give biases to attention or MLP, by architecture; elsewhere they are there or they are not."""
SWITCHED = {"attention": r"self_attn\.[qkvo]_proj\.weight$", "mlp": r"mlp\.(gate|up|down)_proj\.weight$"}

EMBEDDING = ("embedding", "")

Where = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Folds:
    """What becomes of a checkpoint.

    Args:
        changes: What becomes of a tensor, by name; also of a bias that is made.
        created: The bias that is made beside a weight, by the weight's name.
        config: Entries of the config that change.
        untied: The embedding whose unchanged value becomes an unembedding of its own.
    """

    changes: Mapping[str, Change]
    created: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    untied: str | None = None

    def stored(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """What is written in place of one tensor."""
        found = {name: self.changes[name](weight) if name in self.changes else weight}
        if name in self.created:
            bias, zero = self.created[name], weight.new_zeros(weight.shape[0])
            found[bias] = self.changes[bias](zero) if bias in self.changes else zero
        if name == self.untied:
            found[UNTIED] = weight.clone()
        return found


def fold(
    shapes: Mapping[str, Shape], config: Any, edits: Mapping[Site, Any], *, force: bool = False, untie: bool = False
) -> Folds:
    """How edits of all tokens become changes of weights, exactly.

    Args:
        shapes: Every tensor of the checkpoint.
        config: Its Hugging Face config, of the text model.
        edits: At sites.
        force: Whether to go on with a tied unembedding, which is then edited too, and with norms after a block's
            parts, which let a direction back in.
        untie: Whether a tied model gets an unembedding of its own where the embedding changes.

    Raises:
        SteeringError: when an edit is not affine, or no weights equal it at its site.
        ModelError: when the architecture is unknown, tied, norms its parts' outputs, or has no bias where one is
            needed.
        ShapeError: when an edit is for another d_model.
    """
    known = places(shapes, config)
    if not force:
        refuse_post_norms(shapes, config)
    maps = {site: _affine(site, edits[site], config) for site in sorted(edits)}
    changes: dict[str, Change] = {}
    writes: dict[Where, tuple[Affine, ...]] = defaultdict(tuple)
    for site, affine in maps.items():
        if site.stream in READERS:
            changes |= _read(site, affine, shapes, config)
        elif _is_written(site, affine, maps, config):
            writes[_writer(site)] += (affine,)
    created: dict[str, str] = {}
    switched: dict[str, Any] = {}
    for (part, layer), folds in writes.items():
        own = {name: place for name, place in known.items() if (place.part, place.layer) == (part, layer)}
        if part == "embedding":
            token = embedding_name(shapes)
            changes |= {name: Change(place.axis, folds, constant=name == token) for name, place in own.items()}
            continue
        changes |= {name: Change(place.axis, folds, constant=name.endswith("bias")) for name, place in own.items()}
        if any(one.moves for one in folds) and (bias := _bias(part, layer, list(own), config)) not in shapes:
            changes[bias] = Change(0, folds, constant=True)
            created |= _made(part, shapes)
            switched[SWITCHES[config.model_type][part]] = True
    if is_tied(config) and EMBEDDING in writes:
        return _tied(Folds(changes, created, switched), writes[EMBEDDING], known, shapes, config, force, untie)
    return Folds(changes, created, switched)


def _affine(site: Site, edit: Any, config: Any) -> Affine:
    if site.layer >= config.num_hidden_layers:
        raise SteeringError(f"the edit at {site} is for a layer this model has not; it has {config.num_hidden_layers}.")
    try:
        found = Affine.of(edit)
    except SteeringError as error:
        raise SteeringError(f"the edit at {site} cannot be written into weights: {error}") from error
    if len(found.constant) != config.hidden_size:
        raise ShapeError(f"the edit at {site} is for d_model {len(found.constant)}, the model's is "
                         f"{config.hidden_size}.")
    return found


def _writer(site: Site) -> Where:
    """What writes the activation at a site last."""
    if site == Site(0, "resid_pre"):
        return EMBEDDING
    if site.stream in ("attn_out", "resid_mid"):
        return "attention", str(site.layer)
    return "mlp", str(site.layer - (site.stream == "resid_pre"))


def _is_written(site: Site, affine: Affine, maps: Mapping[Site, Affine], config: Any) -> bool:
    """Whether the write before the site takes the edit over; False where there is nothing left to do.

    Raises:
        SteeringError: when no weights equal the edit.
    """
    embedded = site == Site(0, "resid_pre")
    if site.stream in ("attn_out", "mlp_out") or (embedded and not affine.moves):
        return True
    if not (affine.is_constant or embedded):
        if _silent(site, affine, maps, config):
            return False
        raise SteeringError(f"the edit at {site} depends on the whole stream there, which no single weight writes. "
                            "Ablation can be written into weights at sites='every_write'; additions at any site.")
    parallel = site.stream == "resid_mid" and getattr(config, "use_parallel_residual", False)
    if config.model_type not in PLAIN_BLOCKS or parallel:
        raise ModelError(f"a constant at {site} can be written into the weights of {', '.join(PLAIN_BLOCKS)}; whether "
                         f"the blocks of {config.model_type} scale what is added there is not known. Use the steerer.")
    return True


def _silent(site: Site, affine: Affine, maps: Mapping[Site, Affine], config: Any) -> bool:
    """Whether a direction is taken out that is taken out of every write before the site too, and nothing is added."""
    r = affine.projected
    if r is None or any(one.moves for one in maps.values()):
        return False
    before = [Site(0, "resid_pre"), *(Site(layer, stream) for layer in range(config.num_hidden_layers)
                                      for stream in ("attn_out", "mlp_out"))]
    others = [maps[one].projected if one in maps else None for one in before if one < site]
    return all(other is not None and bool((other * torch.sign(other @ r) - r).abs().max() < SAME) for other in others)


def _read(site: Site, affine: Affine, shapes: Mapping[str, Shape], config: Any) -> dict[str, Change]:
    if config.model_type not in PLAIN_BLOCKS or affine.moves:
        known = f"in the weights of {', '.join(PLAIN_BLOCKS)}, and without a constant part"
        raise SteeringError(f"an edit of a norm's output, such as {site}, can be written into what reads it {known}.")
    axis = 0 if config.model_type == "gpt2" else -1
    pattern = re.compile(rf"(^|\.)(layers|h)\.{site.layer}\.{READERS[site.stream]}")
    return {name: Change(axis, (affine,), "input") for name in shapes if pattern.search(name)}


def _bias(part: str, layer: str, own: Sequence[str], config: Any) -> str:
    """Name of the bias of attention or MLP, whether it is there or can be made.

    Raises:
        ModelError: when there can be none.
    """
    weights = [name for name in own if name.endswith("weight")]
    if len(weights) > 1:
        raise ModelError(f"the {part} of layer {layer} has {len(weights)} outputs, which are weighed by token; a "
                         "constant cannot be written into them. Use the steerer.")
    bias = re.sub("weight$", "bias", weights[0])
    if bias not in own and part not in SWITCHES.get(config.model_type, {}):
        able = ", ".join(kind for kind, parts in SWITCHES.items() if part in parts)
        raise ModelError(f"a constant is written into the bias of {weights[0]}, and a {config.model_type} has none "
                         f"(gpt2, gpt_neox and starcoder2 have it, {able} may). Use the steerer, or export it to gguf.")
    return bias


def _made(part: str, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Every bias that the switch of a part asks for, by the weight it is made beside."""
    weights = [name for name in shapes if re.search(SWITCHED[part], name)]
    return {name: bias for name in weights if (bias := re.sub("weight$", "bias", name)) not in shapes}


def _tied(folds: Folds, embedded: tuple[Affine, ...], known: Mapping[str, Place], shapes: Mapping[str, Shape],
          config: Any, force: bool, untie: bool) -> Folds:
    """Folds of a model whose unembedding is its embedding, where the embedding changes."""
    if untie:
        return replace(folds, config={**folds.config, "tie_word_embeddings": False},
                       untied=embedding_name(shapes) if UNTIED not in shapes else None)
    if not force:
        refuse_tied()
    unembedding = [name for name, place in known.items() if place.part == "unembedding" and name.endswith("weight")]
    return replace(folds, changes={**folds.changes, **{name: Change(-1, embedded) for name in unembedding}})
