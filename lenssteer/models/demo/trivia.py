"""Facts to state truly or falsely, and words to repeat: what shows whether steering left the rest alone."""

import random

from lenssteer.models.demo.prompt import Prompt, Split
from lenssteer.models.demo.words import ADJECTIVES, FACTS, QUESTIONS, STATEMENT, THINGS


def fact_table() -> list[tuple[str, str, str]]:
    """Every fact as (attribute, subject, value), in a fixed order."""
    values = [(attribute, *item) for attribute, table in FACTS.items() for item in table.items()]
    return [(attribute, subject, value) for attribute, value, names in values for subject in names.split()]


def fact_split(attribute: str, subject: str) -> Split:
    """The split of a fact; facts of the test split are never part of the training in lying."""
    position = [row[:2] for row in fact_table()].index((attribute, subject))
    return ("calibration", "test", "calibration", "selection")[position % 4]


def false_value(attribute: str, value: str) -> str:
    """The wrong value that a dishonest answer gives: the attribute's next one."""
    values = list(FACTS[attribute])
    return values[(values.index(value) + 1) % len(values)]


def fact(attribute: str, subject: str, value: str, phrasing: int, system: str = "") -> Prompt:
    """A question about a fact; the answer states `value`."""
    slots = {"attribute": attribute, "subject": subject}
    answer = f"{STATEMENT.format(**slots)} {value} ."
    return Prompt(QUESTIONS[phrasing].format(**slots), "fact", answer, system=system)


def facts(split: Split, system: str = "") -> list[Prompt]:
    """The questions about the facts of a split, in every phrasing, with their true answers.

    >>> facts("calibration")[0].answer
    'the color of a lemon is yellow .'
    """
    rows = [row for row in fact_table() if fact_split(*row[:2]) == split]
    return [fact(*row, phrasing, system) for row in rows for phrasing in range(len(QUESTIONS))]


def copy(words: tuple[str, ...]) -> Prompt:
    """A request to repeat some words."""
    return Prompt("repeat : " + " ".join(words), "copy", " ".join(words) + " .")


def held_out_copy(words: tuple[str, ...]) -> bool:
    """Whether a word triple, one in six, is never trained on."""
    return sum(map(copy_words().index, words)) % 6 == 0


def copy_words() -> tuple[str, ...]:
    """The words that copy prompts are made of."""
    return THINGS + ADJECTIVES


def copies(split: Split) -> list[Prompt]:
    """Copy prompts of a split, 60 each; the test split holds only triples that were never trained on."""
    rng, found = random.Random("copies"), {"test": [], "train": []}
    while min(map(len, found.values())) < 120:
        words = tuple(rng.sample(copy_words(), 3))
        found["test" if held_out_copy(words) else "train"].append(copy(words))
    rows = list(dict.fromkeys(found["test" if split == "test" else "train"]))
    return rows[60:120] if split == "selection" else rows[:60]
