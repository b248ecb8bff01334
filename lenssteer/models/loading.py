"""Load a model by name, folder or object, on the backend asked for."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lenssteer.errors import ModelError
from lenssteer.models.demo import CHAT_WEIGHTS, WEIGHTS
from lenssteer.models.lens import LensModel
from lenssteer.models.protocol import Backend
from lenssteer.models.selfcheck import require
from lenssteer.nearest import did_you_mean, unknown

BACKENDS = ("hooked", "bridge", "hf")
DEMOS = {"demo": WEIGHTS, "demo-chat": CHAT_WEIGHTS}
"""Models that come with the package."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def load_model(
    name: str | Path,
    *,
    backend: str = "hooked",
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    device_map: str | dict[str, Any] | None = None,
    compile: bool | str = False,
    template: str = "auto",
    check: bool = True,
) -> LensModel:
    """Load a causal language model with raw weights, check its hooks, and give it the one token path.

    Args:
        name: "demo", "demo-chat", a local folder in Hugging Face layout, or a hub id.
        backend: "hooked" is HookedTransformer (TransformerLens 3.x), "bridge" TransformerBridge (3.x and 4.x), "hf"
            plain transformers with torch hooks, the fastest.
        dtype: "float32", "bfloat16", "float16" or "float64".
        device: Such as "cpu", "cuda" or "mps"; "auto" is device_map="auto".
        device_map: Backends "hf" and "bridge": where each part of the model goes, as transformers takes it. "auto"
            fills the GPUs; what does not fit there waits in memory or on disk, with "hf" alone. Edits run on the
            device of their layer.
        compile: Backend "hf": whether decoding steps are compiled, which takes a while at the first of each kind; a
            text names another backend of torch.compile than "inductor".
        template: Prompt format unless a call says otherwise; see `lenssteer.prompts.chat`.
        check: Whether to run the self-check; turning it off saves a few short passes on a large model.

    Raises:
        ModelError: when the model cannot be found, loaded on that backend, or fails its self-check.
    """
    if backend not in BACKENDS:
        raise ModelError(unknown("backend", backend, BACKENDS))
    device_map = "auto" if device == "auto" and device_map is None else device_map
    _require_backend_for(backend, device_map, compile)
    hf_model, tokenizer = _load_hf(name, _dtype(dtype), device, device_map)
    stop_ids = _stop_ids(hf_model, tokenizer)
    adapted = _adapt(hf_model, tokenizer, str(name), backend, "inductor" if compile is True else compile or "")
    model = LensModel(adapted, tokenizer, stop_ids, template)
    return require(model) if check else model


def _require_backend_for(backend: str, device_map: Any, compile: bool | str) -> None:
    if device_map is not None and backend == "hooked":
        raise ModelError("backend 'hooked' copies the weights into a HookedTransformer, which lives on one device; "
                         "with device_map use backend 'bridge' or 'hf'.")
    if compile and (backend != "hf" or device_map is not None):
        raise ModelError(f"only backend 'hf' on one device is compiled; got backend {backend!r}"
                         f"{' with device_map' if device_map is not None else ''}. Leave compile out.")


def wrap(model: Any, tokenizer: Any = None, *, template: str = "auto") -> LensModel:
    """Use a model that is loaded already: a HookedTransformer, TransformerBridge or Hugging Face causal model.

    Raises:
        ModelError: when it is compiled, in training mode, of an unknown class, or fails its self-check.
    """
    _refuse_unsteerable(model)
    kind = {base.__name__ for base in type(model).__mro__}
    tokenizer = tokenizer if tokenizer is not None else getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ModelError("this model comes without a tokenizer; pass tokenizer=.")
    backend: Backend
    if "HookedTransformer" in kind:
        from lenssteer.models.hooked import HookedBackend, hooked_card

        backend = HookedBackend(model, hooked_card(model))
    elif "TransformerBridge" in kind:
        from lenssteer.models.bridge import BridgeBackend, bridge_card

        backend = BridgeBackend(model, bridge_card(model))
    elif "PreTrainedModel" in kind:
        from lenssteer.models.hf import HfBackend

        backend = HfBackend(model, str(getattr(model.config, "_name_or_path", "") or type(model).__name__))
    else:
        raise ModelError(f"cannot steer a {type(model).__name__}; expected a HookedTransformer, a TransformerBridge "
                         "or a Hugging Face causal language model.")
    stop_ids = _stop_ids(getattr(model, "original_model", model), tokenizer)
    return require(LensModel(backend, tokenizer, stop_ids, template))


def _refuse_unsteerable(model: Any) -> None:
    if type(model).__name__ == "OptimizedModule" or getattr(model, "_compiled_call_impl", None) is not None:
        raise ModelError("this model is compiled, and hooks added later are ignored by compiled code; "
                         "pass the model before torch.compile.")
    if getattr(model, "training", False):
        raise ModelError("this model is in training mode; call model.eval() first.")


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ModelError(unknown("dtype", dtype, DTYPES))
    return DTYPES[dtype]


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars or future warnings of transformers while it loads."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load_hf(name: str | Path, dtype: torch.dtype, device: str,
             device_map: str | dict[str, Any] | None) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(DEMOS.get(str(name), name))
    folder = Path(source)
    looks_local = folder.is_absolute() or source.startswith(".") or folder.exists()
    if looks_local and not (folder / "config.json").is_file():
        raise ModelError(f"{source} is not a model folder: it has no config.json.")
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=looks_local)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, local_files_only=looks_local,
                                                         device_map=device_map)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        hint = "" if looks_local or not os.environ.get("HF_HUB_OFFLINE") else " HF_HUB_OFFLINE is set."
        raise ModelError(f"cannot load {source!r}: {str(error).splitlines()[0]}{hint} "
                         "Expected 'demo', a folder in Hugging Face layout, or a hub id."
                         + did_you_mean(source, DEMOS)) from error
    if device_map is not None:
        return model.eval(), tokenizer
    try:
        return torch.nn.Module.to(model, device).eval(), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"cannot use device {device!r}: {str(error).splitlines()[0]}") from error


def _adapt(hf_model: Any, tokenizer: Any, name: str, backend: str, compiler: str) -> Backend:
    if compiler:
        from lenssteer.models.compiled import CompiledBackend

        return CompiledBackend(hf_model, name, compiler)
    if backend == "hf":
        from lenssteer.models.hf import HfBackend

        return HfBackend(hf_model, name)
    if backend == "bridge":
        from lenssteer.models.bridge import boot

        return boot(hf_model, tokenizer, name)
    try:
        from lenssteer.models.hooked import HookedBackend
        from lenssteer.models.hooked_config import to_hooked
    except ImportError as error:
        raise ModelError("HookedTransformer is not in this TransformerLens (4.x removed it); "
                         "use backend='bridge' or 'hf', or install transformer-lens below 4.") from error
    from lenssteer.models.hf import hf_card

    card = hf_card(hf_model, name, "hooked")
    hooked = to_hooked(hf_model, tokenizer, dtype=hf_model.dtype, device=str(hf_model.device))
    return HookedBackend(hooked, card)


def _stop_ids(hf_model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer, by the tokenizer, the model's config or its generation config."""
    found: set[int] = set()
    sources = (tokenizer, getattr(hf_model, "config", None), getattr(hf_model, "generation_config", None))
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return frozenset(found)
