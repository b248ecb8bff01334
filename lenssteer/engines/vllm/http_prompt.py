"""Prompts of requests: the same token ids as on every other path, and where the instruction ends in them."""

from collections.abc import Mapping
from typing import Any

from lenssteer.errors import PromptError
from lenssteer.prompts import encode

FORMATTING = ("tools", "documents", "chat_template", "chat_template_kwargs", "continue_final_message",
              "reasoning_effort", "response_format", "structured_outputs", "functions")
"""Fields that may change how a chat is rendered, in ways that only the server knows."""


def with_one_bos(tokenizer: Any, prompt: Any) -> Any:
    """A prompt of /v1/completions; a text becomes token ids where the server's own would differ in the BOS.

    Raises:
        PromptError: when a text has no tokens.
    """
    if isinstance(prompt, list) and prompt and all(isinstance(one, str) for one in prompt):
        ids = [_plain(tokenizer, one) for one in prompt]
        return prompt if ids == [tokenizer(one)["input_ids"] for one in prompt] else ids
    if isinstance(prompt, str):
        ids = _plain(tokenizer, prompt)
        return prompt if ids == tokenizer(prompt)["input_ids"] else ids
    return prompt


def chat_needs_bos(tokenizer: Any) -> bool:
    """Whether the server has to add a BOS to rendered chats: the tokenizer adds one, and the template does not."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(encode(tokenizer, ["a"], template="chat")[0].ids) == [tokenizer.bos_token_id, *plain]


def instruction_end(tokenizer: Any, request: Mapping[str, Any]) -> int:
    """Index of the first token after the last user message of a chat.

    Raises:
        PromptError: when the request changes how the chat is rendered, or a message is not plain text.
    """
    changed = next((name for name in FORMATTING if request.get(name)), None)
    if changed is not None or request.get("add_generation_prompt", True) is not True:
        raise PromptError(f"{changed or 'add_generation_prompt'} changes the text around the instruction.")
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) and isinstance(one.get("content"), str)
                                                 and isinstance(one.get("role"), str) for one in messages):
        raise PromptError("messages must be a list of objects with role and content, both text.")
    plain = [{"role": one["role"], "content": one["content"]} for one in messages]
    return encode(tokenizer, [plain], template="chat")[0].instruction[1]


def _plain(tokenizer: Any, text: str) -> list[int]:
    return list(encode(tokenizer, [text], template="none")[0].ids)
