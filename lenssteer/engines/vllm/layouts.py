"""Where vLLM's decoder layers keep the streams, and the hooks that put the op there before the model is compiled.

Most layers pass on a pair, whose sum is the residual stream; their norms add it up and return (normed, sum). The op is
given both halves, so it sees the same values as on other backends, and writes its change into the first.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lenssteer.engines.vllm.op import number
from lenssteer.errors import ModelError, SiteError
from lenssteer.nearest import unknown
from lenssteer.site import Site, Stream


@dataclass(frozen=True)
class Layout:
    """How the decoder layers of an architecture are built.

    Args:
        layers: Path to their list.
        outputs: The module that returns a stream, by stream.
        pairs: Whether layers pass on (hidden, residual) as arguments 1 and 2, rather than the stream as argument 0.
    """

    layers: str = "model.layers"
    outputs: dict[Stream, str] = field(default_factory=lambda: {
        "ln1_out": "input_layernorm", "attn_out": "self_attn", "ln2_out": "post_attention_layernorm", "mlp_out": "mlp"})
    pairs: bool = True


PLAIN = Layout()
SANDWICH = Layout(outputs={"ln1_out": "input_layernorm", "attn_out": "post_attention_layernorm",
                           "ln2_out": "pre_feedforward_layernorm", "mlp_out": "post_feedforward_layernorm"})
GPT2 = Layout("transformer.h", {"ln1_out": "ln_1", "attn_out": "attn", "ln2_out": "ln_2", "mlp_out": "mlp"}, False)
LAYOUTS = {
    "LlamaForCausalLM": PLAIN, "MistralForCausalLM": PLAIN, "Qwen2ForCausalLM": PLAIN, "Qwen3ForCausalLM": PLAIN,
    "Gemma2ForCausalLM": SANDWICH, "Gemma3ForCausalLM": SANDWICH, "GPT2LMHeadModel": GPT2,
}


def layout_of(architecture: str) -> Layout:
    """The layout of an architecture.

    Raises:
        ModelError: when lenssteer does not know it.
    """
    if architecture not in LAYOUTS:
        raise ModelError(unknown("architecture for vLLM", architecture, LAYOUTS)
                         + " Load it without vLLM, with --engine torch.")
    return LAYOUTS[architecture]


def install(model: nn.Module, wanted: Iterable[Site]) -> None:
    """Put the op at sites of a model that was not compiled yet; at all others nothing is changed.

    Raises:
        ModelError: when the architecture is not known.
        SiteError: when a layer is not in this process or a site does not exist.
    """
    layout = layout_of(type(model).__name__)
    layers: Any = model.get_submodule(layout.layers)
    for site in sorted(wanted):
        if site.layer >= len(layers):
            raise SiteError(f"the model has layers 0 to {len(layers) - 1}; a steerer acts at {site}.")
        _put(layers[site.layer], layout, site)


def _put(layer: nn.Module, layout: Layout, site: Site) -> None:
    code = number(site)
    if site.stream == "resid_pre":
        layer.register_forward_pre_hook(_before(code, 1 if layout.pairs else 0, layout.pairs))
    elif site.stream == "resid_post":
        layer.register_forward_hook(_after(code, layout.pairs))
    elif site.stream == "resid_mid":
        norm = layer.get_submodule(layout.outputs["ln2_out"])
        norm.register_forward_pre_hook(_before(code, 0, layout.pairs))
    else:
        layer.get_submodule(layout.outputs[site.stream]).register_forward_hook(_after(code, False))


# Both are lambdas because the compiler traces them, and would trace whatever a checker wraps around a function too.


def _before(code: int, place: int, pairs: bool) -> Callable[..., None]:
    """A hook on what a module is given: argument `place` and, in pairs, the next."""
    return lambda _module, args: torch.ops.lenssteer.steer(args[place], args[place + 1] if pairs else None, code)


def _after(code: int, pairs: bool) -> Callable[..., None]:
    """A hook on what a module returns, or the first of it; in pairs, the two are summands."""
    return lambda _module, _args, out: torch.ops.lenssteer.steer(
        out[0] if isinstance(out, tuple) else out, out[1] if pairs else None, code)
