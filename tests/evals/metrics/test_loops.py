import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import Loop, tail_loop


def longest_tail(units, period):
    """Length of the longest tail with a period, from its definition."""
    start = len(units)
    while start > 0 and (start + period > len(units) or units[start - 1] == units[start - 1 + period]):
        start -= 1
    return len(units) - start


def by_definition(units, turns, least):
    tails = [(period, longest_tail(units, period)) for period in range(1, len(units))]
    return next((Loop(period, n) for period, n in tails if n >= max(turns * period, least)), None)


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(2, 4), st.integers(1, 12))
def test_it_is_the_shortest_loop_of_the_definition(tokens, turns, least):
    assert tail_loop(tokens, turns=turns, least=least) == by_definition(tokens, turns, least)


@given(st.text("abc ", max_size=20), st.text("xyz", min_size=1, max_size=9), st.integers(3, 30), st.integers(0, 8))
def test_what_is_said_over_and_over_is_found_wherever_it_is_cut(before, said, turns, cut):
    text = before + said * turns + said[:cut]
    found = tail_loop(text, least=1)
    assert found is not None
    assert found.period <= len(said)
    assert found.turns >= 3


@pytest.mark.parametrize(("text", "loop"), [
    ("", None), ("Yes", None), ("No!!!", None), ("ha ha ha", None), ("hmmmmmmm", None), ("\U0001f600" * 39, None),
    ("\U0001f600" * 40, Loop(1, 40)), ("a" * 5000, Loop(1, 5000)), ("Well, " + "spin it. " * 9, Loop(9, 81)),
    ("\u201cSo it is.\u201d " * 4, Loop(12, 47)), ("\u4f60\u597d\u4f60" * 20, Loop(3, 60)),
    ("A plain answer: take the sock, fold it twice, and put it with the others in the drawer.", None),
    ("spin it. " * 9 + "Then it stopped for good.", None),
])
def test_loops_by_hand(text, loop):
    assert tail_loop(text) == loop


def test_white_space_at_the_end_does_not_hide_a_loop():
    assert tail_loop("spin it. " * 9 + "\n\n") == tail_loop(("spin it. " * 9).rstrip())


def test_token_ids_are_searched_as_they_are():
    assert tail_loop([5, 6, 7] + [1, 2] * 6) == Loop(2, 12)
    assert tail_loop([5, 6, 7] + [1, 2] * 5) is None
    assert tail_loop([1, 2] * 5, least=10) == Loop(2, 10)
    assert tail_loop([]) is None


def test_time_grows_as_the_length_does():
    """Two million comparisons at most; by the definition it would be 10^10."""
    started = time.perf_counter()
    assert tail_loop("a" * 50_000 + "b" + "a" * 50_000) == Loop(1, 50_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("options", [{"turns": 1}, {"least": 0}])
def test_loops_of_nothing_are_refused(options):
    with pytest.raises(ParameterError, match="at least two turns"):
        tail_loop("a", **options)
