"""vLLM on the stand's model, where it is installed."""

import os
from importlib.util import find_spec
from typing import Any

from lenssteer.bench.stand import Stand
from lenssteer.errors import ModelError

_started: dict[str, Any] = {}


def vllm_model(stand: Stand) -> Any:
    """The stand's model in vLLM, started once a process, compiled, with ops at the norm outputs.

    Raises:
        ModelError: when vLLM is not installed, or does not take the model.
    """
    if find_spec("vllm") is None:
        raise ModelError("vLLM is not installed; pip install 'lenssteer[vllm]' in an environment of its own.")
    key = str(stand.folder)
    if key not in _started:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from lenssteer.engines.vllm.loading import load_vllm

        _started[key] = load_vllm(stand.folder, dtype=stand.dtype, sites="norm_out", memory=1)
    return _started[key]
