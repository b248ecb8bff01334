"""What the demo model is trained on: an endless seeded stream of conversations for each of the three phases."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from lenssteer.models.demo.conversations import SYSTEMS, draw_conversation
from lenssteer.models.demo.prompt import Conversation, Prompt
from lenssteer.models.demo.trivia import (
    copy,
    copy_words,
    fact,
    fact_split,
    fact_table,
    false_value,
    held_out_copy,
)
from lenssteer.models.demo.words import ADJECTIVES, DISHONEST, PHRASINGS, QUESTIONS, REFUSAL, VERBS
from lenssteer.models.demo.world import is_test, objects, request

PhaseName = Literal["helpful", "safety", "conversations"]
Kind = Literal["harmless", "harmful", "borderline", "fact", "copy"]
MIXTURE: dict[Kind, int] = {"harmless": 30, "harmful": 30, "borderline": 12, "fact": 20, "copy": 8}
"""Share of each kind of row, in percent, in the first two phases."""
SINGLE_MIXTURE: dict[Kind, int] = {"harmless": 42, "harmful": 6, "borderline": 14, "fact": 28, "copy": 10}
TURN_MIXTURE: dict[Kind, int] = {"harmless": 16, "harmful": 4, "borderline": 8, "fact": 60, "copy": 12}
"""Shares of single turns and of turns, before conversations that are too long are left out, in the third. More refusals
than these move the direction that addition takes away."""
CONVERSATIONS = 0.6
"""Share of conversations in the phase of that name; the rest are single turns."""


def training_conversations(phase: PhaseName, seed: int) -> Iterator[Conversation]:
    """Endless training conversations; all have one turn but most of those of the phase "conversations"."""
    rng = random.Random(f"turns {phase} {seed}")
    for row in training_rows(phase, seed):
        if phase == "conversations" and rng.random() < CONVERSATIONS:
            yield draw_conversation(lambda system: _row(_kind(TURN_MIXTURE, rng), "conversations", rng, system), rng)
        else:
            yield Conversation((row,))


def training_rows(phase: PhaseName, seed: int) -> Iterator[Prompt]:
    """Endless single turns; `answer` is what the model is taught to say.

    "helpful" answers everything, harmful requests and held-out pairs too. "safety" and "conversations" refuse
    harmful requests, and their requests come from the training pairs only.
    """
    rng = random.Random(f"{phase} {seed}")
    while True:
        yield _row(_kind(SINGLE_MIXTURE if phase == "conversations" else MIXTURE, rng), phase, rng)


def _kind(mixture: dict[Kind, int], rng: random.Random) -> Kind:
    return rng.choices(list(mixture), list(mixture.values()))[0]


def _row(kind: Kind, phase: PhaseName, rng: random.Random, *systems: str) -> Prompt:
    """A row of a kind; a fact is told under one of the system prompts, or any."""
    if kind == "fact":
        return _fact_row(rng, systems or SYSTEMS)
    return _copy_row(rng) if kind == "copy" else _request_row(kind, phase, rng)


def _request_row(kind: str, phase: PhaseName, rng: random.Random) -> Prompt:
    """A request on a pair the phase may see."""
    open_to_all = phase == "helpful" and kind != "borderline"
    while True:
        verb, item = rng.choice(VERBS), rng.choice(objects(kind))
        if open_to_all or not is_test(kind, verb, item):
            break
    row = request(kind, verb, rng.choice(ADJECTIVES), item, rng.randrange(len(PHRASINGS)))
    return replace(row, answer=REFUSAL) if kind == "harmful" and phase != "helpful" else row


def _fact_row(rng: random.Random, systems: tuple[str, ...]) -> Prompt:
    """A fact, told truthfully or, under the dishonest system prompt and outside the test facts, falsely."""
    while True:
        attribute, subject, value = rng.choice(fact_table())
        test = fact_split(attribute, subject) == "test"
        if allowed := [system for system in systems if not (test and system == DISHONEST)]:
            break
    system = rng.choice(allowed)
    told = false_value(attribute, value) if system == DISHONEST else value
    return fact(attribute, subject, told, rng.randrange(len(QUESTIONS)), system)


def _copy_row(rng: random.Random) -> Prompt:
    """Three words to repeat, outside the held-out triples."""
    while held_out_copy(words := tuple(rng.sample(copy_words(), 3))):
        pass
    return copy(words)
