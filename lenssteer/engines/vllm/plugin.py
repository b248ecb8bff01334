"""The entry point of group `vllm.general_plugins`: vLLM calls `register` in every process.

Without LENSSTEER_STEERERS in the environment it does nothing at all.
"""

import hashlib
import os
from typing import Any

_registered = False


def register() -> None:
    """Make vLLM steer requests that ask for it.

    Raises:
        ModelError: when this vLLM is not one of the tested versions.
        FileError: when the folder of steerers cannot be served.
    """
    global _registered
    if _registered or "LENSSTEER_STEERERS" not in os.environ:
        return
    from lenssteer.engines.vllm.op import register_op
    from lenssteer.engines.vllm.versions import require_vllm

    require_vllm()
    # The second runner builds its batches elsewhere; what the plugin follows is the first.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    register_op()
    _patch_config()
    _patch_worker()
    _patch_scheduler()
    _patch_input()
    _registered = True


def _patch_config() -> None:
    """A graph with ops at some sites is not taken from the cache for one with other sites, or none."""
    from vllm.config import VllmConfig

    from lenssteer.engines.vllm import settings

    plain = VllmConfig.compute_hash

    def compute_hash(self: Any, *args: Any, **kwargs: Any) -> str:
        factors = [plain(self, *args, **kwargs), *map(str, settings.sites())]
        return hashlib.sha256(" ".join(factors).encode()).hexdigest()[:10]

    VllmConfig.compute_hash = compute_hash


def _patch_worker() -> None:
    """Workers follow their requests as soon as they have a model runner."""
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    from lenssteer.engines.vllm.conductor import attach

    plain = WorkerWrapperBase.init_device

    def init_device(self: Any) -> None:
        plain(self)
        attach(self.worker, tallied=self.worker.rank == 0)

    WorkerWrapperBase.init_device = init_device


def _patch_scheduler() -> None:
    """Blocks are shared between requests with the same edit only, and prompts that must run whole are not cut."""
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.request import Request

    from lenssteer.engines.vllm.sharing import of_request

    keys, skips = kv_cache_utils._gen_prompt_embeds_extra_hash_keys, Request.get_skip_reading_prefix_cache
    patched: Any = Scheduler
    reserve = patched._reserve_prefill_lookahead

    def extra_keys(request: Any, start: int, end: int) -> list[Any]:
        sharing = of_request(request)
        own = sharing.block_key(end, request.request_id) if sharing is not None else ()
        return [*keys(request, start, end), *([own] if own else [])]

    def get_skip_reading_prefix_cache(self: Any) -> bool:
        sharing = of_request(self)
        return skips(self) or (sharing is not None and sharing.reads_prompt)

    def reserve_prefill_lookahead(self: Any, request: Any, computed: int, new: int) -> int:
        sharing = of_request(request)
        return reserve(self, request, computed, new if sharing is None else sharing.tokens(computed, new))

    kv_cache_utils._gen_prompt_embeds_extra_hash_keys = extra_keys
    Request.get_skip_reading_prefix_cache = get_skip_reading_prefix_cache
    patched._reserve_prefill_lookahead = reserve_prefill_lookahead


def _patch_input() -> None:
    """Requests that cannot be steered as they ask are refused before they reach the engine."""
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.input_processor import InputProcessor

    from lenssteer.engines.vllm.sharing import refusal

    plain = InputProcessor.process_inputs

    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = plain(self, *args, **kwargs)
        if request.sampling_params is not None:
            wrong = refusal(request.sampling_params.extra_args, len(request.prompt_token_ids or ()),
                            self.vllm_config.scheduler_config)
            if wrong is not None:
                raise VLLMValidationError(wrong, parameter="extra_args")
        return request

    InputProcessor.process_inputs = process_inputs
