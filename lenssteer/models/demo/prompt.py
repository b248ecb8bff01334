"""The values that every part of the demo world speaks in."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["calibration", "selection", "test"]


@dataclass(frozen=True)
class Prompt:
    """One question to the demo model.

    `answer` is the exact right answer: for a harmful request the helpful one, for a fact the true one.
    `verb`, `adjective` and `object` are empty where they do not apply.
    """

    text: str
    kind: str
    answer: str
    verb: str = ""
    adjective: str = ""
    object: str = ""
    system: str = ""


@dataclass(frozen=True)
class Conversation:
    """Prompts put one after the other, each with the answer the model is taught, under one system prompt."""

    turns: tuple[Prompt, ...]

    def messages(self, turn: int) -> list[dict[str, str]]:
        """What the model reads before it answers a turn: the system prompt and everything said so far."""
        system = self.turns[0].system
        said = [{"role": "system", "content": system}] if system else []
        for earlier in self.turns[:turn]:
            said += [{"role": "user", "content": earlier.text}, {"role": "assistant", "content": earlier.answer}]
        return [*said, {"role": "user", "content": self.turns[turn].text}]
