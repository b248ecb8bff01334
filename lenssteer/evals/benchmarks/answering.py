"""Answers that end at given texts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, LensModel, decode
from lenssteer.models.sizing import fitting
from lenssteer.prompts import Encoded, pad

FIRST_ROUND = 32
"""Tokens after which a batch is looked at for texts that end an answer; four times as many in each later round."""


def answer_until(model: LensModel, prompts: Sequence[Encoded], until: Sequence[str], decoding: Decoding, *,
                 rows: Sequence[int] | None = None, batch_size: int | None = None,
                 progress: str = "") -> list[list[int]]:
    """Token ids of every answer up to the stop token, the longest length, or a little past the first text of `until`.

    The decoding loop knows stop tokens only. An answer is therefore drawn in rounds: short first, and again from its
    prompt with four times the length where no text of `until` has come; greedy and seeded answers begin alike.

    Args:
        model: Steered or not.
        prompts: Encoded prompts.
        until: Texts that end an answer.
        decoding: How answers are drawn.
        rows: Which row of the whole call each prompt is; see `Tokens.rows`.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when a text of `until` is empty.
    """
    numbers = list(rows) if rows is not None else list(range(len(prompts)))

    def draw(waiting: Sequence[int], decoding: Decoding) -> list[list[int]]:
        chosen = [prompts[i] for i in waiting]
        answers: dict[int, list[int]] = {}

        def answer(group: list[int]) -> list[list[int]]:
            rows = [numbers[waiting[i]] for i in group]
            return decode(model, pad([chosen[i] for i in group], pad_id=model.pad_id, rows=rows), decoding)

        for group, found in fitting(model, chosen, answer, rows=batch_size, new=decoding.max_new_tokens,
                                    progress=progress):
            answers |= dict(zip(group, found, strict=True))
        return [answers[i] for i in range(len(chosen))]

    return in_rounds(draw, len(prompts), until, decoding, model.tokenizer)


def in_rounds(draw: Callable[[Sequence[int], Decoding], list[list[int]]], count: int, until: Sequence[str],
              decoding: Decoding, tokenizer: Any) -> list[list[int]]:
    """The rounds of `answer_until`, whoever draws.

    Args:
        draw: From numbers of prompts and a length to the token ids of their answers.
        count: Number of prompts.
        until: Texts that end an answer.
        decoding: How answers are drawn.
        tokenizer: Reads them.

    Raises:
        ParameterError: when a text of `until` is empty.
    """
    if not all(until):
        raise ParameterError("an empty text cannot end an answer; leave it out of `until`.")
    answers: dict[int, list[int]] = {}
    waiting = list(range(count))
    length = min(FIRST_ROUND, decoding.max_new_tokens) if until else decoding.max_new_tokens
    while waiting:
        drawn = draw(waiting, replace(decoding, max_new_tokens=length))
        answers |= dict(zip(waiting, drawn, strict=True))
        if length == decoding.max_new_tokens:
            break
        waiting = [i for i in waiting if len(answers[i]) == length and not _ended(tokenizer, answers[i], until)]
        length = min(4 * length, decoding.max_new_tokens)
    return [answers[i] for i in range(count)]


def cut(text: str, until: Sequence[str]) -> str:
    """A text up to the first of the texts that end it.

    >>> cut("4. Question: 5", ["Question:", "."])
    '4'
    """
    for end in until:
        text = text.split(end)[0]
    return text


def _ended(tokenizer: Any, ids: Sequence[int], until: Sequence[str]) -> bool:
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return any(end in text for end in until)
