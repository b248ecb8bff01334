"""Load a model into vLLM in this process."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lenssteer.engines.vllm.layouts import layout_of
from lenssteer.engines.vllm.model import VllmModel
from lenssteer.engines.vllm.plugin import register
from lenssteer.engines.vllm.private import announce
from lenssteer.engines.vllm.versions import require_vllm
from lenssteer.errors import ModelError
from lenssteer.models.described import Described, describe
from lenssteer.site import STREAMS, Site, sites_of

CPU_HEADS = 32


def load_vllm(
    name: str | Path,
    *,
    dtype: str = "float32",
    template: str = "auto",
    max_model_len: int | None = None,
    sites: str | Sequence[Site | str] | None = None,
    memory: float | int | None = None,
    enforce_eager: bool = False,
    **options: Any,
) -> VllmModel:
    """Load a causal language model into vLLM with an op at every site that may be steered.

    Args:
        name: "demo", "demo-chat", a local folder in Hugging Face layout, or a hub id.
        dtype: "float32", "bfloat16" or "float16".
        template: Prompt format unless a call says otherwise.
        max_model_len: Longest sequence; None for the model's own.
        sites: Where steerers may act: a set of sites such as "norm_out", or sites; None for all. An op that has nothing
            to do costs microseconds.
        memory: GiB for keys and values; None lets vLLM choose.
        enforce_eager: Whether the model runs without a compiled graph; a fallback, slower.
        **options: Of `vllm.LLM`.

    Raises:
        ModelError: when this vLLM or the architecture is not supported, or vLLM cannot load the model.
    """
    require_vllm()
    described = describe(name, "vllm")
    layout_of(described.card.architecture)
    wanted = _sites(sites, described.card.n_layers)
    announce(wanted)
    if enforce_eager:
        warnings.warn("vLLM runs eagerly, as a fallback: the same answers, without the compiled graph.", stacklevel=2)
    # One process: steerers are shelved here, and nothing has to be importable by name elsewhere.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    register()
    refuse_narrow_heads(described)
    from vllm import LLM
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        options.setdefault("compilation_config", {"cudagraph_mode": "NONE"})
    # One token more than the model reads, which scoring a text that fills the context generates.
    os.environ.setdefault("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    n_ctx = min(described.card.n_ctx, max_model_len or described.card.n_ctx)
    if memory is not None:
        options["kv_cache_memory_bytes"] = int(memory * 2**30)
    try:
        llm = LLM(str(described.folder), max_model_len=n_ctx + 1, enforce_eager=enforce_eager,
                  skip_tokenizer_init=True, generation_config="vllm", **{"dtype": dtype, **options})
    except (ValueError, RuntimeError, NotImplementedError, OSError) as error:
        raise ModelError(f"vLLM cannot load {name}: {error}") from error
    return VllmModel(llm, replace(described, card=replace(described.card, n_ctx=n_ctx)), template, wanted)


def refuse_narrow_heads(described: Described) -> None:
    """Refuse on a CPU what vLLM refuses there only once it runs.

    Raises:
        ModelError: with the size of a head.
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and described.head_size % CPU_HEADS:
        raise ModelError(f"vLLM's attention on a CPU takes heads of a multiple of {CPU_HEADS}; {described.card.name} "
                         f"has heads of {described.head_size}. Load it with --engine torch.")


def _sites(sites: str | Sequence[Site | str] | None, n_layers: int) -> list[Site]:
    if sites is None:
        return sorted(Site(layer, stream) for layer in range(n_layers) for stream in STREAMS)
    if isinstance(sites, str):
        return sites_of(sites, n_layers)
    return sorted({Site.parse(one) if isinstance(one, str) else one for one in sites})
