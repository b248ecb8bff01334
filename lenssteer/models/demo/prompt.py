"""The value that every part of the demo world speaks in."""

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
