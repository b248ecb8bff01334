"""How many tokens a request may ask for, by its key."""

from typing import Any

from lenssteer.engines.vllm.http_keys import Key
from lenssteer.errors import ParameterError

USUAL = 16
"""Tokens of a completion that says nothing of them."""
MOST = ("max_tokens", "max_completion_tokens")


def hold_to_tokens(request: dict[str, Any], key: Key, *, chat: bool) -> None:
    """Refuse a request for more tokens than its key may have; one that names no number gets what is left.

    Args:
        request: Changed in place.
        key: Whose request.
        chat: Whether it is a chat, whose answers are as long as fits unless it says something.

    Raises:
        ParameterError: with the number and the limit.
    """
    if request.get("use_beam_search") and (key.max_tokens is not None or key.max_prompt_tokens is not None):
        raise ParameterError("beam search takes more tokens than it says; a key with limits may not ask for it.")
    if key.max_tokens is None:
        return
    answers = (1 if chat else _prompts(request.get("prompt"))) * _number(request, "n", 1)
    each = key.max_tokens // max(1, answers)
    if not each:
        raise ParameterError(f"this key may have {key.max_tokens} tokens in all answers of a request together; it asks "
                             f"for {answers} answers.")
    asked = {name: _number(request, name, None) for name in MOST if request.get(name) is not None}
    if not asked:
        request[MOST[0]] = each if chat else min(each, USUAL)
    for name, number in asked.items():
        if number > each:
            raise ParameterError(f"{name}={number} for each of {answers} answers is more than this key may have, "
                                 f"{key.max_tokens} in all; ask for {each} at most.")


def _number(request: dict[str, Any], name: str, default: Any) -> int:
    value = request.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(f"{name} must be a whole number.")
    return value


def _prompts(prompt: Any) -> int:
    """How many prompts a completion has: a text or token ids are one."""
    if isinstance(prompt, list) and not all(isinstance(one, int) for one in prompt):
        return len(prompt)
    return 1
