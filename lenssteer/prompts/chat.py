"""Chat templates and prompt patterns: from a prompt to the exact text a model reads, and where the instruction stands.

`template` is "auto" (the tokenizer's chat template where it has one, else the text as it is), "chat", "none", or a
pattern such as "User: {prompt}\\nBot:".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lenssteer.errors import PromptError

Message = dict[str, str]
Prompt = str | Sequence[Message]
SENTINEL = "\u241fINSTRUCTION\u241f"
PLACE = "{prompt}"


@dataclass(frozen=True)
class Rendered:
    """Text to tokenise, and the characters [start, end) of it that are the user's last instruction."""

    text: str
    start: int
    end: int


def render(tokenizer: Any, prompt: Prompt, *, template: str = "auto", system: str | None = None) -> Rendered:
    """Put a prompt, or a conversation, into the model's format, ready for its answer.

    Raises:
        PromptError: when the template is unknown, the tokenizer has none, or it refuses the roles given.
    """
    if template == "auto":
        template = "chat" if getattr(tokenizer, "chat_template", None) else "none"
    if template == "chat":
        return _chat(tokenizer, prompt, system)
    if not isinstance(prompt, str):
        raise PromptError("a conversation needs a chat template; use template='chat' or give plain text.")
    if system:
        raise PromptError("a system prompt needs a chat template; write it into the prompt instead.")
    pattern = PLACE if template == "none" else template
    if pattern.count(PLACE) != 1:
        raise PromptError(f"template {template!r} is not 'auto', 'chat', 'none' or a pattern with {PLACE} in it once.")
    before, after = pattern.split(PLACE)
    return Rendered(before + prompt + after, len(before), len(before) + len(prompt))


def _chat(tokenizer: Any, prompt: Prompt, system: str | None) -> Rendered:
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError("this tokenizer has no chat template; use template='none' or a pattern with {prompt}.")
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    if not turns or turns[-1].get("role") != "user":
        raise PromptError("a conversation must end with a user turn, since the model answers next.")
    messages = ([{"role": "system", "content": system}] if system else []) + turns
    text = _applied(tokenizer, messages)
    frame = _applied(tokenizer, [*messages[:-1], {"role": "user", "content": SENTINEL}])
    before, _, after = frame.partition(SENTINEL)
    if not (text.startswith(before) and text.endswith(after)):
        raise PromptError("the chat template changes the text around an instruction with its content, "
                          "so the instruction cannot be located.")
    return Rendered(text, len(before), len(text) - len(after))


def _applied(tokenizer: Any, messages: list[Message]) -> str:
    import jinja2

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except jinja2.TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise PromptError(f"the chat template refuses the roles {roles}: {error}") from error
