"""From rows to batches: the chat format as token ids, and labels that leave the prompt out of the loss."""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lenssteer.models.demo.prompt import Prompt

IGNORED = -100
Batch = tuple[Tensor, Tensor]


def encode(tokenizer: Any, row: Prompt) -> tuple[list[int], int]:
    """Token ids of prompt and answer, and the prompt's length."""
    prompt = _prompt_ids(tokenizer, row.system, row.text)
    answer = tokenizer(row.answer + " " + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    return [*prompt, *answer], len(prompt)


@cache
def _prompt_ids(tokenizer: Any, system: str, text: str) -> tuple[int, ...]:
    """The chat format of a prompt, through the template that users will use."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    form = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    return tuple(tokenizer.apply_chat_template(messages, **form)["input_ids"])


def batches(tokenizer: Any, rows: Iterator[Prompt], size: int) -> Iterator[Batch]:
    """Endless batches of token ids and labels, padded on the right; the loss sees answer tokens only."""
    while True:
        encoded = [encode(tokenizer, row) for row in islice(rows, size)]
        width = max(len(ids) for ids, _ in encoded)
        ids = torch.full((size, width), tokenizer.pad_token_id)
        labels = torch.full((size, width), IGNORED)
        for i, (tokens, start) in enumerate(encoded):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            labels[i, start : len(tokens)] = torch.tensor(tokens[start:])
        yield ids, labels
