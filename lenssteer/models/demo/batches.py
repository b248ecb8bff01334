"""From conversations to batches: the chat format as token ids, and labels that leave the prompts out of the loss."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lenssteer.models.demo.prompt import Conversation

IGNORED = -100
Batch = tuple[Tensor, Tensor]
Labelled = tuple[list[int], list[int]]


def encode(tokenizer: Any, conversation: Conversation) -> Labelled:
    """Token ids of a conversation with its answers, and its labels: the ids of every answer, `IGNORED` elsewhere."""
    ids: list[int] = []
    labels: list[int] = []
    for turn, row in enumerate(conversation.turns):
        prompt = _prompt_ids(tokenizer, conversation.messages(turn))
        answer = tokenizer(row.answer + " " + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        labels += [IGNORED] * (len(prompt) - len(labels)) + answer
        ids = [*prompt, *answer]
    return ids, labels


def _prompt_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """The chat format of a prompt, through the template that users will use."""
    form = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    return tokenizer.apply_chat_template(messages, **form)["input_ids"]


def batches(tokenizer: Any, rows: Iterator[Conversation], size: int, parts: int = 1) -> Iterator[list[Batch]]:
    """Endless batches of token ids and labels, each in equal parts; conversations of similar length share a part."""
    while True:
        encoded = [encode(tokenizer, row) for row in islice(rows, size)]
        if parts > 1:
            encoded.sort(key=lambda pair: len(pair[0]))
        step = size // parts
        yield [_padded(tokenizer, encoded[start : start + step]) for start in range(0, size, step)]


def _padded(tokenizer: Any, encoded: list[Labelled]) -> Batch:
    """Rows padded on the right to the longest of them."""
    width = max(len(ids) for ids, _ in encoded)
    ids = torch.full((len(encoded), width), tokenizer.pad_token_id)
    labels = torch.full((len(encoded), width), IGNORED)
    for i, (tokens, told) in enumerate(encoded):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        labels[i, : len(told)] = torch.tensor(told)
    return ids, labels
