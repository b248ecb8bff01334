import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lenssteer.errors import ParameterError
from lenssteer.evals.statistics import mcnemar, movement

VERDICTS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80)
SCORES = st.lists(st.tuples(*[st.floats(-5, 5) | st.none() | st.just(float("nan"))] * 2), max_size=40)


@given(VERDICTS)
def test_mcnemar_is_the_binomial_test_of_scipy_on_the_prompts_that_differ(pairs):
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    table = np.zeros((2, 2), int)
    for a, b in pairs:
        table[int(not a), int(not b)] += 1
    found = mcnemar(ours, theirs)
    assert (found.only_ours, found.only_theirs, found.pairs) == (table[0, 1], table[1, 0], len(pairs))
    if table[0, 1] + table[1, 0]:
        assert found.p == pytest.approx(binomtest(int(table[0, 1]), int(table[0, 1] + table[1, 0])).pvalue)
    else:
        assert found.p == 1


def test_mcnemar_by_hand():
    """Five prompts to none: p = 2 / 2^5; prompts on which both agree do not matter."""
    assert mcnemar([True] * 5, [False] * 5).p == pytest.approx(1 / 16)
    assert mcnemar([True] * 15, [False] * 5 + [True] * 10).p == pytest.approx(1 / 16)
    assert mcnemar([], []).p == 1


def test_mcnemar_is_exact_for_thousands_of_prompts():
    found = mcnemar([True] * 2600 + [False] * 2400, [False] * 2600 + [True] * 2400)
    assert found.p == pytest.approx(binomtest(2600, 5000).pvalue, rel=1e-9)


def test_a_prompt_without_both_verdicts_is_left_out_and_counted():
    found = mcnemar([True, None, True, None], [False, True, None, None])
    assert (found.only_ours, found.only_theirs, found.pairs, found.unscored) == (1, 0, 1, 3)


@given(SCORES, st.booleans(), st.floats(0, 2))
def test_movement_by_its_definition(pairs, up, tolerance):
    found = movement([a for a, _ in pairs], [b for _, b in pairs], up=up, tolerance=tolerance)
    scored = np.array([(a, b) for a, b in pairs if a is not None and b is not None and a == a and b == b]).reshape(-1, 2)
    change = (scored[:, 1] - scored[:, 0]) * (1 if up else -1)
    assert found.wrong == (change < -tolerance).sum()
    assert found.right == (change > tolerance).sum()
    assert found.right + found.wrong + found.still + found.unscored == len(pairs)
    assert found.unscored == len(pairs) - len(scored)
    if len(scored):
        assert found.wrong_share == pytest.approx(found.wrong / len(scored))
        low, high = binomtest(int(found.wrong), len(scored)).proportion_ci(method="wilson")
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    else:
        assert (found.wrong_share, found.low, found.high) == (None, 0.0, 1.0)


def test_a_mean_that_rises_can_hide_prompts_that_fall():
    before, after = [0.0] * 10, [10.0] * 4 + [-1.0] * 6
    assert np.mean(after) > np.mean(before)
    assert movement(before, after).wrong_share == 0.6
    assert movement(before, after, up=False).wrong_share == 0.4


@pytest.mark.parametrize(("before", "after", "options", "message"), [
    ([1.0], [], {}, "same prompts"), ([1.0], [float("inf")], {}, "infinite"), ([1.0], [1.0], {"tolerance": -1.0}, "tolerance"),
    ([1.0], [1.0], {"tolerance": float("nan")}, "tolerance"),
])
def test_scores_that_cannot_be_compared_are_refused(before, after, options, message):
    with pytest.raises(ParameterError, match=message):
        movement(before, after, **options)


def test_verdicts_without_partners_are_refused():
    with pytest.raises(ParameterError, match="same prompts"):
        mcnemar([True], [])
