"""Which prompts a result was fitted or chosen on, so that they are refused where it is tested."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence

from lenssteer.errors import PromptError
from lenssteer.prompts.chat import Prompt


def prompt_hash(prompt: Prompt) -> str:
    """Sixteen hex digits of a prompt; of a conversation, its user turns, whatever system prompt opens it.

    >>> prompt_hash("hello ") == prompt_hash([{"role": "system", "content": "x"}, {"role": "user", "content": "hello"}])
    True
    """
    turns = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt if turn["role"] == "user"]
    return hashlib.sha256(json.dumps([turn.strip() for turn in turns], ensure_ascii=False).encode()).hexdigest()[:16]


def hashes(prompts: Iterable[Prompt]) -> list[str]:
    """The hashes of prompts, each once, in order."""
    return sorted({prompt_hash(prompt) for prompt in prompts})


def refuse_seen(seen: Collection[str], prompts: Sequence[Prompt], what: str = "the steerer") -> None:
    """Refuse test prompts that something was fitted or chosen on.

    Raises:
        PromptError: with how many, and the first.
    """
    known = set(seen)
    leaked = [i for i, prompt in enumerate(prompts) if prompt_hash(prompt) in known]
    if leaked:
        raise PromptError(f"{len(leaked)} of {len(prompts)} test prompts were used to fit or choose {what}, the first "
                          f"is number {leaked[0]}; split the prompts before calibrating and test on the part kept "
                          "apart.")
