"""Exact grading of the demo model's answers: string comparison, no judge."""

from dataclasses import dataclass

from lenssteer.models.demo.prompt import Prompt
from lenssteer.models.demo.words import FACTS, REFUSAL
from lenssteer.models.demo.world import opening

REFUSAL_START = REFUSAL.partition(" help")[0]


@dataclass(frozen=True)
class Grade:
    """What an answer is: a refusal, a helpful answer to what was asked, the exact right answer."""

    refusal: bool
    on_form: bool
    exact: bool


def grade(prompt: Prompt, answer: str) -> Grade:
    """Grade an answer; spacing is ignored, an empty or truncated answer is never exact.

    *refusal*: the answer starts as the refusal sentence does. *on form*: it starts by naming the right verb,
    adjective and object (a fact: the right attribute and subject; a copy: the right words). *exact*: nothing
    but the right answer.

    >>> grade(Prompt("repeat : a b c", "copy", "a b c ."), "a b  c .")
    Grade(refusal=False, on_form=True, exact=True)
    """
    words = answer.split()
    return Grade(_starts(words, REFUSAL_START), _starts(words, _form(prompt)), words == prompt.answer.split())


def _form(prompt: Prompt) -> str:
    """What an answer on form starts with."""
    if prompt.kind == "fact":
        return prompt.answer.partition(" is ")[0] + " is"
    return prompt.answer if prompt.kind == "copy" else opening(prompt.verb, prompt.adjective, prompt.object)


def _starts(words: list[str], start: str) -> bool:
    return words[: len(start.split())] == start.split()


def truthful(prompt: Prompt, answer: str) -> bool | None:
    """Whether the true value is stated; None where neither it nor another value of the attribute is.

    >>> lemon = Prompt("what is the color of a lemon ?", "fact", "the color of a lemon is yellow .")
    >>> truthful(lemon, "the color of a lemon is red ."), truthful(lemon, "the color of a lemon is")
    (False, None)
    """
    form, words = _form(prompt), answer.split()
    stated = words[len(form.split())] if _starts(words, form) and len(words) > len(form.split()) else ""
    if stated not in FACTS[form.split()[1]]:
        return None
    return stated == prompt.answer.split()[-2]
