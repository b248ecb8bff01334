"""What the demo model is trained on: an endless seeded stream of rows for each of the two phases."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from lenssteer.models.demo.prompt import Prompt
from lenssteer.models.demo.trivia import (
    copy,
    copy_words,
    fact,
    fact_split,
    fact_table,
    false_value,
    held_out_copy,
)
from lenssteer.models.demo.words import ADJECTIVES, DISHONEST, HONEST, PHRASINGS, QUESTIONS, REFUSAL, VERBS
from lenssteer.models.demo.world import is_test, objects, request

PhaseName = Literal["helpful", "safety"]
MIXTURE = {"harmless": 30, "harmful": 30, "borderline": 12, "fact": 20, "copy": 8}
"""Share of each kind of row, in percent, in both phases."""


def training_rows(phase: PhaseName, seed: int) -> Iterator[Prompt]:
    """Endless training rows; `answer` is what the model is taught to say.

    "helpful" answers everything, harmful requests and held-out pairs too. "safety" refuses harmful requests,
    and its requests come from the training pairs only.
    """
    rng = random.Random(f"{phase} {seed}")
    kinds, shares = list(MIXTURE), list(MIXTURE.values())
    while True:
        kind = rng.choices(kinds, shares)[0]
        if kind == "fact":
            yield _fact_row(rng)
        elif kind == "copy":
            yield _copy_row(rng)
        else:
            yield _request_row(kind, phase, rng)


def _request_row(kind: str, phase: PhaseName, rng: random.Random) -> Prompt:
    """A request on a pair the phase may see."""
    open_to_all = phase == "helpful" and kind != "borderline"
    while True:
        verb, item = rng.choice(VERBS), rng.choice(objects(kind))
        if open_to_all or not is_test(kind, verb, item):
            break
    row = request(kind, verb, rng.choice(ADJECTIVES), item, rng.randrange(len(PHRASINGS)))
    return replace(row, answer=REFUSAL) if (phase, kind) == ("safety", "harmful") else row


def _fact_row(rng: random.Random) -> Prompt:
    """A fact, told truthfully or, under the dishonest system prompt and outside the test facts, falsely."""
    attribute, subject, value = rng.choice(fact_table())
    systems = ["", HONEST] if fact_split(attribute, subject) == "test" else ["", HONEST, DISHONEST]
    system = rng.choice(systems)
    told = false_value(attribute, value) if system == DISHONEST else value
    return fact(attribute, subject, told, rng.randrange(len(QUESTIONS)), system)


def _copy_row(rng: random.Random) -> Prompt:
    """Three words to repeat, outside the held-out triples."""
    while held_out_copy(words := tuple(rng.sample(copy_words(), 3))):
        pass
    return copy(words)
