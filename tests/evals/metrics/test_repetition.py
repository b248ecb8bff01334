import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import distinct_ngrams, mostly_repeats, repeated_ngrams, tail_loop
from lenssteer.evals.metrics.words import ngrams, words

SENTENCES = st.lists(st.sampled_from("the sock button is red and small".split()), max_size=40).map(" ".join)
SMILE = "\U0001f600"


@pytest.mark.parametrize(("text", "n", "share"), [
    ("", 3, 0.0), ("one", 3, 0.0), ("one", 1, 0.0), ("a a a a", 1, 0.75), ("a b a b a b", 2, 0.6), (f"{SMILE} {SMILE} {SMILE}", 1, 2 / 3),
    ("a" * 5000, 4, 0.0), ("a b c", 4, 0.0), ("a b c d", 4, 0.0), ("a b c d " * 2, 4, 0.2), ("\u201cno\u201d \"no\"", 1, 0.0),
    ("\u54c8\u54c8\u54c8\u54c8", 1, 0.75), ("\u54c8\u54c8\u54c8\u54c8\u54c8\u54c8", 4, 2 / 3), ("ha \u54c8 ha\u54c8", 2, 1 / 3),
])
def test_repeated_ngrams_by_hand(text, n, share):
    assert repeated_ngrams(text, n) == pytest.approx(share)


@given(SENTENCES, st.integers(1, 5))
def test_repeated_ngrams_are_those_scikit_learn_counts(text, n):
    if len(text.split()) <= n:
        assert repeated_ngrams(text, n) == 0
        return
    counts = CountVectorizer(ngram_range=(n, n), token_pattern=r"\S+").fit_transform([text])
    assert repeated_ngrams(text, n) == pytest.approx(1 - counts.nnz / counts.sum())


@given(st.text())
def test_words_keep_every_character_but_space(text):
    assert "".join(words(text)) == "".join(text.split())
    assert all(words(text))


def test_words_of_unspaced_scripts_are_characters():
    assert words("\u0e17\u0e33 ok\u3046\u30a8!") == ["\u0e17", "\u0e33", "ok", "\u3046", "\u30a8", "!"]
    for letter in "\u0e81\u1000\u1780\u3400\uf900\U00020000":
        assert words(letter * 3) == [letter] * 3
    assert words("\uc548\ub155 \ud558\uc138\uc694") == ["\uc548\ub155", "\ud558\uc138\uc694"]
    assert ngrams("a b c", 2) == [("a", "b"), ("b", "c")]


@given(st.lists(SENTENCES, min_size=1, max_size=4), st.integers(1, 3))
def test_distinct_ngrams_are_counted_over_all_answers_and_never_span_two(texts, n):
    grams = Counter(tuple(text.split()[i : i + n]) for text in texts for i in range(len(text.split()) - n + 1))
    total = sum(len(text.split()) for text in texts)
    assert distinct_ngrams(texts, n) == (len(grams) / total if total else None)


def test_answers_that_are_all_the_same_are_not_diverse():
    apart = ["the sock is red", "a button spins fast", "please fold it twice"]
    assert distinct_ngrams(apart, 1) == 1
    assert distinct_ngrams(apart[:1] * 3, 1) == pytest.approx(1 / 3)
    assert distinct_ngrams(["one", "two"], 2) == 0
    assert distinct_ngrams([], 2) is None
    assert distinct_ngrams(["", " \n"], 2) is None


@pytest.mark.parametrize(("text", "repeats"), [
    ("spin the button spin the button spin the button", True), ("Spin SPIN spin sPIN spIN spiN sPiN SpiN", True),
    ("one two three four five six seven eight", False), ("red red red", False), ("", False), ("a" * 500, False), ("a a a a b c d e", False),
    ("a a a a a b c d", True), (" ".join([SMILE] * 8), True),
])
def test_mostly_repeated_words_by_hand(text, repeats):
    assert mostly_repeats(text) is repeats


def test_a_long_text_comes_back_to_the_same_words_without_looping():
    draw = random.Random(0)
    vocabulary = [f"word{i}" for i in range(150)]
    texts = [" ".join(draw.choices(vocabulary, k=n)) for n in (40, 400)]
    assert [mostly_repeats(text) for text in texts] == [False, True]
    assert [tail_loop(text) for text in texts] == [None, None]


@pytest.mark.parametrize("n", [0, -1])
def test_ngrams_without_words_are_refused(n):
    with pytest.raises(ParameterError, match="at least one word"):
        repeated_ngrams("a", n)
    with pytest.raises(ParameterError, match="at least one word"):
        distinct_ngrams([], n)
