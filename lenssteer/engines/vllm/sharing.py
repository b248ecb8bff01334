"""What steering asks of vLLM's scheduler and prefix cache."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lenssteer.engines.vllm import settings
from lenssteer.engines.vllm.asked import INSTRUCTION_END, PROMPT_LIMIT
from lenssteer.engines.vllm.slot import needs_whole_prompt, reads_late, reads_prompt
from lenssteer.errors import LenssteerError
from lenssteer.steering import Steerer

NEVER = 1 << 62


@dataclass(frozen=True)
class Sharing:
    """What of a request's keys and values depends on its edit.

    Args:
        key: Of the edit.
        ends: Where its instruction and prompt end.
        touched: First token index that may be edited.
        uniform: Token index up to which the edit does the same whatever `ends` are.
        whole_prompt: Whether the prompt has to run in one pass.
        reads_prompt: Whether all of the prompt has to run.
        answer_apart: Whether the answer has to run in a later step than the end of the prompt.
    """

    key: str
    ends: tuple[int, int]
    touched: int
    uniform: int
    whole_prompt: bool
    reads_prompt: bool
    answer_apart: bool

    @classmethod
    def of(cls, key: str, steerer: Steerer, instruction_end: int, prompt_end: int) -> "Sharing":
        """What a steerer does to a prompt."""
        kind = steerer.where.kind
        touched = {"all": 0, "prompt": 0, "last_prompt": prompt_end - 1, "after_instruction": instruction_end}
        plain = steerer.schedule is None or steerer.schedule.is_plain
        uniform = {"all": NEVER if plain else prompt_end, "prompt": prompt_end}
        return cls(key, (instruction_end, prompt_end), touched.get(kind, prompt_end), uniform.get(kind, 0),
                   needs_whole_prompt(steerer), reads_prompt(steerer), reads_late(steerer))

    def tokens(self, computed: int, new: int) -> int:
        """How many of `new` tokens may run in a step after `computed` ones; 0 lets the request wait."""
        end = self.ends[1]
        if not computed < end:
            return new
        if computed + new < end:
            return 0 if self.whole_prompt else new
        return end - computed if self.answer_apart else new

    def block_key(self, end: int, request: str) -> tuple[str, ...]:
        """What blocks that end before token index `end` must agree on to be shared; () where it is nothing.

        A row whose whole prompt decides what is done shares nothing that is edited.
        """
        if end <= self.touched:
            return ()
        alone = (request,) if self.reads_prompt else ()
        return ("lenssteer", self.key, *alone, *(() if end <= self.uniform else map(str, self.ends)))


def sharing_of(extra: Mapping[str, Any] | None, prompt_tokens: int) -> Sharing | None:
    """The sharing of a request; None where it is not steered."""
    try:
        asked = settings.shelf().read(extra)
        if asked is None:
            return None
        end = prompt_tokens if asked.prompt_end is None else asked.prompt_end
        return Sharing.of(asked.key, settings.shelf().steerer(asked),
                          end if asked.instruction_end is None else asked.instruction_end, end)
    except LenssteerError:
        return None


def of_request(request: Any) -> Sharing | None:
    """The sharing of one of the scheduler's requests, found once."""
    if not hasattr(request, "lenssteer"):
        params = request.sampling_params
        request.lenssteer = None if params is None else sharing_of(params.extra_args, request.num_prompt_tokens)
    return request.lenssteer


def step_tokens(scheduler: Any) -> int:
    """Most tokens of one request in one step, by vLLM's config of the scheduler."""
    limits = (scheduler.max_num_batched_tokens, scheduler.long_prefill_token_threshold)
    return min(limit for limit in limits if limit > 0)


def too_long(sharing: Sharing, most: int) -> str | None:
    """Why a request can never run; None where it can."""
    if not sharing.whole_prompt or sharing.ends[1] <= most:
        return None
    return (f"the steerer needs the whole prompt in one step, {most} tokens at most; this one has {sharing.ends[1]}. "
            "Shorten it, or start vLLM with a higher max_num_batched_tokens.")


def refusal(extra: Mapping[str, Any] | None, prompt_tokens: int, scheduler: Any) -> str | None:
    """Why a request is not to be let in; None where it is.

    Args:
        extra: Its `extra_args`.
        prompt_tokens: How many it has.
        scheduler: vLLM's config of it.
    """
    most = (extra or {}).get(PROMPT_LIMIT)
    if isinstance(most, int) and prompt_tokens > most:
        return f"the prompt has {prompt_tokens} tokens; this key may send {most} at most. Shorten it."
    try:
        asked = settings.shelf().read(extra)
        if asked is None:
            return None
        steerer = settings.shelf().steerer(asked)
    except LenssteerError as error:
        return str(error)
    if steerer.where.kind == "after_instruction" and asked.instruction_end is None:
        return (f"steerer {asked.name!r} acts after the instruction, and nobody said where that ends; give "
                f"{INSTRUCTION_END}.")
    end = prompt_tokens if asked.prompt_end is None else asked.prompt_end
    return too_long(Sharing.of(asked.key, steerer, end, end), step_tokens(scheduler))
