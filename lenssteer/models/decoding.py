"""The one decoding loop: greedy or sampled, with or without a KV cache, the same on every backend."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.errors import ParameterError, PromptError
from lenssteer.models.lens import LensModel
from lenssteer.models.sharing import prefill
from lenssteer.models.sizing import fitting
from lenssteer.prompts import Columns, Encoded, Prompt, Tokens, pad

DROPPED_AT = 1 / 8
"""Share of stopped rows at which they are dropped: a ninth fewer tokens than at half, 3 % more than at the first, and
the cache is copied a few times rather than at most steps. A backend for which every size of a batch is dear says its
own."""


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn.

    Args:
        max_new_tokens: Longest answer.
        temperature: 0 is greedy.
        top_p: Share of probability mass sampled from.
        seed: Row i samples with seed + i, so its answer does not depend on the batch it is in.
        use_cache: Whether keys and values of earlier columns are kept; slower without, and the same tokens.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    use_cache: bool = True

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ParameterError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}.")
        if not self.temperature >= 0 or not 0 < self.top_p <= 1:
            raise ParameterError(f"expected temperature >= 0 and 0 < top_p <= 1, got {self.temperature}, {self.top_p}.")


def generate(
    model: LensModel,
    prompts: Sequence[Prompt],
    decoding: Decoding | None = None,
    *,
    template: str | None = None,
    system: str | None = None,
    batch_size: int | None = None,
    draws: Sequence[int] | None = None,
    progress: str = "",
) -> list[str]:
    """Answer every prompt, in batches of similar length; the answers come in the order of the prompts.

    Args:
        model: Steered or not.
        prompts: Texts or conversations.
        decoding: How answers are drawn; greedy, 64 tokens by default.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        draws: What is added to the seed, one number a prompt; by default its place.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there is not one draw a prompt.
        PromptError: when a prompt and its answer do not fit the model's context.
        ModelError: when a single prompt does not fit into memory.
    """
    decoding = decoding or Decoding()
    encoded = _within_context(model, prompts, decoding, template, system)
    answers = [""] * len(encoded)
    if draws is not None and len(draws) != len(encoded):
        raise ParameterError(f"expected one draw a prompt, {len(encoded)}; got {len(draws)}.")

    def answer(group: list[int]) -> list[list[int]]:
        tokens = pad([encoded[i] for i in group], pad_id=model.pad_id, rows=group)
        return decode(model, tokens, decoding, draws)

    for group, found in fitting(model, encoded, answer, rows=batch_size, new=decoding.max_new_tokens,
                                progress=progress):
        for i, ids in zip(group, found, strict=True):
            answers[i] = _text(model, ids)
    return answers


def stream(
    model: LensModel,
    prompts: Sequence[Prompt],
    decoding: Decoding | None = None,
    *,
    template: str | None = None,
    system: str | None = None,
) -> Iterator[list[str]]:
    """The answers of `generate` as they grow: all of them so far, after every step; in one batch.

    Args:
        model: Steered or not, for as long as the answers are drawn.
        prompts: Texts or conversations.
        decoding: How answers are drawn; greedy, 64 tokens by default.
        template: Prompt format.
        system: System prompt for all.

    Raises:
        PromptError: when a prompt and its answer do not fit the model's context.
    """
    decoding = decoding or Decoding()
    encoded = _within_context(model, prompts, decoding, template, system)
    answers: list[list[int]] = [[] for _ in encoded]
    for new in _steps(model, pad(encoded, pad_id=model.pad_id), decoding):
        for row, token in new.items():
            answers[row].append(token)
        yield [_text(model, ids) for ids in answers]


def _within_context(model: LensModel, prompts: Sequence[Prompt], decoding: Decoding, template: str | None,
                    system: str | None) -> list[Encoded]:
    """Prompts as tokens; refused when an answer may not fit behind one."""
    encoded = model.encode(prompts, template=template, system=system)
    longest = max(len(one.ids) for one in encoded) + decoding.max_new_tokens
    if longest > model.card.n_ctx:
        raise PromptError(f"prompt and answer may take {longest} tokens, the model takes {model.card.n_ctx}; "
                          "shorten the prompts or lower max_new_tokens.")
    return encoded


def _text(model: LensModel, ids: list[int]) -> str:
    return model.tokenizer.decode(ids, skip_special_tokens=True).strip()


def decode(model: LensModel, tokens: Tokens, decoding: Decoding,
           draws: Sequence[int] | None = None) -> list[list[int]]:
    """New token ids of every row, without the token that stopped it.

    Rows with the same prompt share its pass where the hooks allow; see `prefill`.
    Rows that have stopped are dropped from the batch once they are an eighth of it.
    """
    answers: dict[int, list[int]] = {int(row): [] for row in tokens.rows}
    for new in _steps(model, tokens, decoding, draws):
        for row, token in new.items():
            answers[row].append(token)
    return [answers[int(row)] for row in tokens.rows]


def _steps(model: LensModel, tokens: Tokens, decoding: Decoding,
           numbers: Sequence[int] | None = None) -> Iterator[dict[int, int]]:
    """The new token of every row that goes on, step by step, by row of the whole call."""
    stop = torch.tensor(sorted(model.stop_ids), dtype=torch.long)
    draws = {row: torch.Generator().manual_seed(decoding.seed + (row if numbers is None else numbers[row]))
             for row in tokens.rows.tolist()}
    logits, cache = prefill(model, tokens) if decoding.use_cache else (None, None)
    ids, mask, start = tokens.ids, tokens.mask, 0
    finished = torch.zeros(len(ids), dtype=torch.bool)
    running = tokens
    dropped_at = getattr(model.backend, "dropped_at", DROPPED_AT)
    for _ in range(decoding.max_new_tokens):
        if logits is None:
            logits = model.run(ids[:, start:], Columns(start, mask, running), cache)[:, -1]
        model.require_finite(logits.amax(-1, keepdim=True))
        chosen, logits = _choose(logits, decoding, [draws[int(row)] for row in running.rows]), None
        finished = finished | torch.isin(chosen, stop)
        yield {row: token for row, token, over in zip(running.rows.tolist(), chosen.tolist(), finished.tolist(),
                                                      strict=True) if not over}
        start = ids.shape[1] if cache is not None else 0
        ids = torch.cat([ids, torch.where(finished, model.pad_id, chosen).unsqueeze(-1)], -1)
        mask = torch.cat([mask, ~finished.unsqueeze(-1)], -1)
        if finished.sum() >= len(finished) * dropped_at:
            going = (~finished).nonzero()[:, 0]
            if not len(going):
                return
            running, ids, mask, finished = running.take(going), ids[going], mask[going], finished[going]
            cache = model.backend.take_rows(cache, going.to(model.device)) if cache is not None else None


def _choose(
    logits: Float[Tensor, "batch vocab"], decoding: Decoding, draws: list[torch.Generator]
) -> Int[Tensor, " batch"]:
    if decoding.temperature == 0:
        return logits.argmax(-1).cpu()
    weights = torch.softmax(logits.float().cpu() / decoding.temperature, -1)
    if decoding.top_p < 1:
        ordered, order = weights.sort(-1, descending=True)
        ordered = ordered * (ordered.cumsum(-1) - ordered < decoding.top_p)
        weights = torch.zeros_like(weights).scatter(-1, order, ordered)
    return torch.stack([torch.multinomial(row, 1, generator=draw)[0] for row, draw in zip(weights, draws, strict=True)])
