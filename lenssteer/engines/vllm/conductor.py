"""The plugin in a worker: before each forward pass it says what the ops are to do, after it measures what they did."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from lenssteer.engines.vllm import settings
from lenssteer.engines.vllm.following import Followed
from lenssteer.engines.vllm.layouts import install
from lenssteer.engines.vllm.op import put_to_work
from lenssteer.engines.vllm.plan import Plan, key_of
from lenssteer.engines.vllm.receipts import as_dict
from lenssteer.engines.vllm.slot import Slot
from lenssteer.engines.vllm.step import Scheduled
from lenssteer.errors import LenssteerError, ModelError

KEPT_SLOTS = 64
KEPT_RECEIPTS = 4096


class Conductor:
    """Follows the steered requests of one worker.

    Args:
        runner: vLLM's model runner.
        tallied: Whether receipts are kept; one rank is enough.
    """

    def __init__(self, runner: Any, tallied: bool) -> None:
        self.runner = runner
        self.tallied = tallied
        self.sites = settings.sites()
        self.slots: OrderedDict[str, Slot] = OrderedDict()
        self.following: dict[str, Followed | None] = {}
        self.tickets: OrderedDict[str, list[Followed]] = OrderedDict()
        self.plan = Plan([], None, runner.device, tallied)
        self.steps = 0

    def forget(self, finished: Collection[str]) -> None:
        """Let go of requests that ended; steps without any token tell of those that ended last."""
        for request in finished:
            self.following.pop(request, None)

    def prepare(self, scheduled_tokens: Sequence[int]) -> None:
        """Say what the ops are to do in the step that the runner's batch describes."""
        scheduled: list[Scheduled] = []
        row, batch = 0, self.runner.input_batch
        for request, start, count in zip(batch.req_ids, batch.num_computed_tokens_cpu.tolist(), scheduled_tokens,
                                         strict=False):
            followed = self._follow(request)
            if followed is not None and followed.slot is not None:
                scheduled.append(Scheduled(followed, row, start, count))
            row += count
        key = key_of(scheduled)
        if not self.plan.serves(key):
            self.plan.settle()
            self.plan = Plan(scheduled, key, self.runner.device, self.tallied)
        self.plan.runs += 1
        put_to_work(self.plan.works)

    def finish(self) -> None:
        """The ops do nothing from here to the next step."""
        self.steps += 1
        put_to_work({})
        if self.plan.key is None:
            self.plan.settle()

    def _follow(self, request: str) -> Followed | None:
        """What is known of a request; None where it is not steered."""
        if request in self.following:
            return self.following[request]
        state = self.runner.requests[request]
        extra = state.sampling_params.extra_args if state.sampling_params is not None else None
        followed = self._read(extra, state.num_prompt_tokens)
        self.following[request] = followed
        return followed

    def _read(self, extra: Mapping[str, Any] | None, prompt: int) -> Followed | None:
        shelf = settings.shelf()
        try:
            asked = shelf.read(extra)
            if asked is None:
                return None
            end = prompt if asked.prompt_end is None else asked.prompt_end
            followed = Followed(asked.key, None, end, end if asked.instruction_end is None else asked.instruction_end)
            self._ticket(asked.ticket, followed)
        except LenssteerError:
            return None
        try:
            followed.slot = self._slot(asked.key, lambda: shelf.steerer(asked))
        except LenssteerError as error:
            followed.error = str(error)
        return followed

    def _slot(self, key: str, make: Any) -> Slot:
        if key not in self.slots:
            self.slots[key] = Slot.of(make(), self.runner.device, self.sites)
            if len(self.slots) > KEPT_SLOTS:
                self.slots.popitem(last=False)
        self.slots.move_to_end(key)
        return self.slots[key]

    def _ticket(self, ticket: str, followed: Followed) -> None:
        if ticket and self.tallied:
            self.tickets.setdefault(ticket, []).append(followed)
            while len(self.tickets) > KEPT_RECEIPTS:
                self.tickets.popitem(last=False)

    def counts(self, tickets: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """What was counted of requests, by their tickets, which are dropped; see `receipts.receipt_of`."""
        self.plan.settle()
        return {ticket: [one.counts() for one in self.tickets.pop(ticket, [])] for ticket in tickets}

    def receipts(self, tickets: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """The same as receipts for JSON."""
        return {ticket: [as_dict(one) for one in counts] for ticket, counts in self.counts(tickets).items()}


def attach(worker: Any, tallied: bool) -> None:
    """Let a conductor take part in what a worker does.

    Raises:
        ModelError: when the worker runs in a way the plugin cannot follow.
    """
    runner = worker.model_runner
    _refuse_unknown(worker, runner)
    conductor = Conductor(runner, tallied)
    worker.lenssteer_receipts, worker.lenssteer_counts = conductor.receipts, conductor.counts
    worker.lenssteer_steps = lambda: conductor.steps
    load, update = runner.load_model, runner._update_states
    prepare, forward = runner._prepare_inputs, runner._model_forward

    def load_model(*args: Any, **kwargs: Any) -> None:
        load(*args, **kwargs)
        install(runner.get_model(), conductor.sites)

    def update_states(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        conductor.forget(scheduler_output.finished_req_ids)
        return update(scheduler_output, *args, **kwargs)

    def prepare_inputs(scheduler_output: Any, tokens: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = prepare(scheduler_output, tokens, *args, **kwargs)
        conductor.prepare(tokens.tolist())
        return prepared

    def model_forward(*args: Any, **kwargs: Any) -> Any:
        try:
            with torch.no_grad():
                return forward(*args, **kwargs)
        finally:
            conductor.finish()

    runner.load_model, runner._update_states = load_model, update_states
    runner._prepare_inputs, runner._model_forward = prepare_inputs, model_forward


def _refuse_unknown(worker: Any, runner: Any) -> None:
    if not hasattr(runner, "_prepare_inputs") or not hasattr(runner, "_model_forward"):
        raise ModelError("lenssteer's plugin follows vLLM's first model runner; unset VLLM_USE_V2_MODEL_RUNNER.")
    if runner.device.type != "cpu" and worker.vllm_config.compilation_config.cudagraph_mode.name != "NONE":
        raise ModelError("a CUDA graph replays what the op did when it was recorded; start vLLM with "
                         """--compilation-config '{"cudagraph_mode": "NONE"}', which keeps the compiled graph.""")
    if worker.vllm_config.speculative_config is not None:
        raise ModelError("lenssteer's plugin does not follow speculative decoding; start vLLM without it.")
    if worker.vllm_config.parallel_config.pipeline_parallel_size > 1:
        raise ModelError("lenssteer's plugin needs all layers in one worker; use tensor instead of pipeline "
                         "parallelism.")
