"""Repetition: how much of an answer, or of a set of answers, says again what was said."""

from collections.abc import Sequence

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics.words import ngrams, words


def repeated_ngrams(text: str, n: int = 4) -> float:
    """Share of the n-grams of a text that stood in it before; 0 where there are fewer than two.

        1 - distinct n-grams / n-grams

    A single very long word has no n-grams: `tail_loop` sees repetition inside it.

    >>> repeated_ngrams("a b c a b c a b c", 3), repeated_ngrams("a b", 3)
    (0.5714285714285714, 0.0)

    Raises:
        ParameterError: when n is below 1.

    Source: the 4-gram repetition of Dang & Ngo 2026, arXiv:2601.19375, Table 4.
    Departs from the authors' code: characters of scripts written without spaces are words.
    """
    grams = ngrams(text, _positive(n))
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


def distinct_ngrams(texts: Sequence[str], n: int = 2) -> float | None:
    """Distinct n-grams of a set of answers over its words; None where there is no word.

    Answers that are fluent one by one and all the same score low. More words score lower by themselves: compare sets
    of about the same size. An n-gram never spans two answers.

    >>> distinct_ngrams(["a b", "a b"], 2)
    0.25

    Raises:
        ParameterError: when n is below 1.

    Source: Li et al. 2016, arXiv:1510.03055, section 5, "distinct-1" and "distinct-2".
    """
    _positive(n)
    total = sum(len(words(text)) for text in texts)
    return len({gram for text in texts for gram in ngrams(text, n)}) / total if total else None


def mostly_repeats(text: str) -> bool:
    """Whether half or fewer of eight or more words are different, whatever their case.

    For short answers only: any long text comes back to the same words. `tail_loop` serves every length.

    >>> mostly_repeats("the the the the the the the the"), mostly_repeats("a short answer")
    (True, False)
    """
    found = words(text.lower())
    return len(found) >= 8 and len(set(found)) * 2 <= len(found)


def _positive(n: int) -> int:
    if n < 1:
        raise ParameterError(f"n is {n}; an n-gram has at least one word.")
    return n
