import pytest
import regex

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import empty, ends_sentence, truncated
from lenssteer.evals.metrics.endings import TERMINALS

SMILE, THUMB = "\U0001f600", "\U0001f44d\U0001f3fd"


def test_terminals_end_sentences_in_unicode():
    assert all(regex.match(r"\p{Sentence_Terminal}", mark) for mark in TERMINALS - {"\u2026"})


@pytest.mark.parametrize(("answer", "nothing"), [
    ("", True), (" \n\t", True), ("...", True), ("\u2026 ?!", True), ("\u200b\ufeff", True), ("\u0301", True), ("\u201c\u201d", True), ("**__**", True),
    ("a", False), ("7", False), (SMILE, False), ("\u4f60", False), ("+", False), ("\u20ac", False), ("\u00bd", False), ("a" * 5000, False),
])
def test_empty_answers_by_hand(answer, nothing):
    assert empty(answer) is nothing


@pytest.mark.parametrize("answer", [
    "It is red.", "Is it?", "No!  \n", "And so on\u2026", "He said \u201cno.\u201d", "(As ever.)", "**Done.**", "_Done!_", "`yes.`", "\u00bbNein.\u00ab",
    "\u5b8c\u4e86\u3002", "\u300c\u597d\u3002\u300d", "\u0647\u0644\u061f", "\u0939\u0948\u0964", f"Have fun {SMILE}", f"Done {THUMB}", "\u2764\ufe0f", "See:\n```\nx = 1\n```\n",
    "\u201eNein.\u201c",
])
def test_sentences_that_end(answer):
    assert ends_sentence(answer)


@pytest.mark.parametrize("answer", [
    "", " ", "Paris", "The next step is to", "first,", "as follows:", "\u201cas\u201d", "1. Take the", "a" * 5000, "```\nx = 1", "```\nx\n```\n```", "42", "***",
    f"{SMILE} and", "\u4f60\u597d",
])
def test_sentences_that_do_not(answer):
    assert not ends_sentence(answer)


@pytest.mark.parametrize(("answer", "tokens", "cut"), [
    ("The next step is", 8, True), ("The next step is", 7, False), ("Paris", 1, False), ("It is red.", 8, False), ("", 0, False), ("", 8, False),
    ("...", 8, False), ("a" * 5000, 8, True), (f"Fine {SMILE}", 8, False),
])
def test_truncated_answers_by_hand(answer, tokens, cut):
    assert truncated(answer, tokens=tokens, limit=8) is cut


@pytest.mark.parametrize(("tokens", "limit"), [(9, 8), (-1, 8), (0, 0)])
def test_impossible_counts_are_refused(tokens, limit):
    with pytest.raises(ParameterError, match="tokens <= limit"):
        truncated("a", tokens=tokens, limit=limit)
