"""Exchanges: prompts with their answers, in two classes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lenssteer.errors import PromptError
from lenssteer.prompts.chat import Message, Prompt

PAIR_KEYS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")


@dataclass(frozen=True)
class Exchange:
    """A prompt, or a conversation that ends with the user's turn, and the answer to it."""

    prompt: Prompt = field()
    answer: str = ""

    @property
    def key(self) -> str:
        """What identifies it: every message and the answer."""
        messages = self.prompt if isinstance(self.prompt, str) else [dict(message) for message in self.prompt]
        return json.dumps([messages, self.answer], ensure_ascii=False)


@dataclass(frozen=True)
class AnswerContrast:
    """Exchanges with (positive) and without (negative) the property a direction should carry.

    The property lies in the answers, so a prompt may stand in both classes: an A/B question with either letter (CAA),
    or a scenario answered under two system prompts (SwFC, StTP, StMP).

    Raises:
        PromptError: when a class is empty, an answer is blank, or an exchange stands in both classes.
    """

    positive: tuple[Exchange, ...]
    negative: tuple[Exchange, ...]
    name: str = "answers"

    def __post_init__(self) -> None:
        for label, exchanges in (("positive", self.positive), ("negative", self.negative)):
            if not exchanges:
                raise PromptError(f"the {label} class is empty; a contrast needs exchanges of both classes.")
            blank = [i for i, exchange in enumerate(exchanges) if not exchange.answer.strip()]
            if blank:
                raise PromptError(f"{label} exchange {blank[0]} has no answer ({len(blank)} in all); remove it.")
        both = {e.key for e in self.positive} & {e.key for e in self.negative}
        if both:
            raise PromptError(f"{len(both)} exchanges stand in both classes, with the same answer; remove them.")

    @property
    def sha256(self) -> str:
        """Identifies the contrast by its exchanges; the name does not count."""
        text = json.dumps([[e.key for e in side] for side in (self.positive, self.negative)])
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_pairs(cls, records: Sequence[Mapping[str, Any]], name: str = "pairs") -> "AnswerContrast":
        """A/B questions in the layout of the CAA data.

        Each record has `question`, `answer_matching_behavior` and `answer_not_matching_behavior`, the answers being
        "(A)" or "(B)". Read the letter with `at="answer(-2)"`.

        Raises:
            PromptError: when a record lacks one of the three.

        Source: Rimsky et al. 2023, arXiv:2312.06681, section 3.
        """
        for number, record in enumerate(records):
            missing = [key for key in PAIR_KEYS if not isinstance(record.get(key), str)]
            if missing:
                raise PromptError(f"pair {number + 1} has no {missing[0]!r}; it has {', '.join(map(str, record))}.")
        question, matching, other = PAIR_KEYS
        return cls(tuple(Exchange(r[question], r[matching].strip()) for r in records),
                   tuple(Exchange(r[question], r[other].strip()) for r in records), name)


def with_system(prompt: Prompt, system: str) -> tuple[Message, ...]:
    """A conversation that opens with a system prompt."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    return ({"role": "system", "content": system}, *turns) if system else tuple(turns)
