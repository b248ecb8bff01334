import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import compression_ratio, tail_loop, windowed_compression


@pytest.fixture(scope="module")
def prose():
    """Even text: words drawn independently, as long as wanted."""
    draw = random.Random(0)
    vocabulary = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 8))) for _ in range(3000)]
    return lambda n: " ".join(draw.choices(vocabulary, k=n))


def test_repetitive_text_compresses(prose):
    assert compression_ratio("the sock " * 50) < 1 / 3 < compression_ratio(prose(50))
    assert windowed_compression("the sock " * 50) < 1 / 3 < windowed_compression(prose(90))


@pytest.mark.parametrize("text", ["a", "No.", "\U0001f600", "\u201cNo\u201d", "I can\u2019t."])
def test_very_short_texts_score_above_one_and_have_no_window(text):
    assert compression_ratio(text) > 1
    assert windowed_compression(text) is None


def test_an_empty_text_is_defined():
    assert compression_ratio("") == 1.0
    assert windowed_compression("") is None


def test_one_very_long_word_is_repetitive():
    assert compression_ratio("a" * 5000) < 0.01
    assert windowed_compression("a" * 5000) < 0.1


def test_length_is_controlled(prose):
    """The plain ratio falls as even text grows; the mean over windows stays."""
    plain = [compression_ratio(prose(n)) for n in (60, 240, 3840)]
    windowed = [windowed_compression(prose(n)) for n in (240, 960, 3840)]
    assert plain[0] > plain[1] + 0.02
    assert plain[1] > plain[2] + 0.02
    assert max(windowed) - min(windowed) < 0.02


def test_a_loop_longer_than_the_window_is_left_to_loop_detection(prose):
    sentence = prose(60)
    assert len(sentence) > 256
    text = sentence * 8
    assert windowed_compression(text) == pytest.approx(windowed_compression(prose(480)), abs=0.04)
    assert windowed_compression(text, 2048) < 0.3
    assert tail_loop(text).period == len(sentence)


@given(st.text(max_size=400), st.integers(1, 64))
def test_windows_are_the_full_ones_of_the_utf8_bytes(text, window):
    raw = text.encode()
    ratios = [len(zlib.compress(raw[i * window : (i + 1) * window], 9)) / window for i in range(len(raw) // window)]
    assert windowed_compression(text, window) == (pytest.approx(sum(ratios) / len(ratios)) if ratios else None)


def test_an_empty_window_is_refused():
    with pytest.raises(ParameterError, match="at least one byte"):
        windowed_compression("a", 0)
