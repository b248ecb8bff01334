import math

import pytest

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import THRESHOLDS, Threshold, count_violations, damage, settings_beyond

FINE = "Take the sock, fold it twice, and put it with the others in the drawer. It stays warm there, and you will find it."
LOOP = "spin it again. " * 40
CHINESE = "\u4f60\u597d\uff0c\u4e16\u754c\u3002"


def test_measures_of_a_good_answer_are_no_violation():
    found = damage(FINE, prompt="Where does a sock go?", tokens=30, limit=48, perplexity=1.5)
    assert set(found) == set(THRESHOLDS)
    assert not any(THRESHOLDS[name].passed(value) for name, value in found.items() if value is not None)


def test_what_was_not_given_is_not_measured():
    assert set(damage(FINE)) == set(THRESHOLDS) - {"truncated", "perplexity"}


@pytest.mark.parametrize(("answer", "beyond"), [
    ("", {"empty"}), (" ... ", {"empty"}), ("Yes", set()), ("\U0001f600", set()), (LOOP, {"loop", "repeated_ngrams", "windowed_compression"}),
    (CHINESE, {"contamination"}), ("a" * 5000, {"loop", "windowed_compression"}), ("It\u2019s \u201cfine\u201d \u2014 really.", set()),
])
def test_damage_by_hand(answer, beyond):
    found = count_violations([damage(answer)])
    assert {name for name, violations in found.items() if violations.beyond} == beyond


@pytest.mark.parametrize("answer", ["", "." * 600])
def test_an_empty_answer_is_in_no_mean_of_quality(answer):
    found = count_violations([damage(answer), damage(CHINESE)])
    assert (found["contamination"].mean, found["contamination"].unscored) == (1.0, 1)
    assert found["repeated_ngrams"].unscored == 1
    assert found["windowed_compression"].unscored == 2
    assert (found["empty"].beyond, found["empty"].scored) == (1, 2)
    assert found["loop"].beyond == len(answer) / 600


def test_the_prompt_says_which_script_belongs():
    assert damage(CHINESE, prompt="\u4f60\u597d")["contamination"] == 0
    assert damage(FINE, prompt="\u4f60\u597d")["contamination"] == 1


def test_a_cut_answer_is_truncated_only_at_its_limit():
    assert damage("take the", tokens=4, limit=4)["truncated"] == 1
    assert damage("take the", tokens=3, limit=4)["truncated"] == 0


@pytest.mark.parametrize("given", [{"tokens": 3}, {"limit": 3}])
def test_half_a_token_count_is_refused(given):
    with pytest.raises(ParameterError, match="come together"):
        damage(FINE, **given)


def test_answers_beyond_are_counted_and_unscored_ones_never_averaged():
    answers = [{"perplexity": 1.0}, {"perplexity": 2.0}, {"perplexity": 6.0}, {"perplexity": math.nan}, {"perplexity": None}]
    found = count_violations(answers)["perplexity"]
    assert (found.beyond, found.scored, found.unscored, found.mean, found.on_average) == (1, 3, 2, 3.0, True)


def test_a_measure_nobody_could_take_violates_nothing():
    found = count_violations([{"perplexity": None}])["perplexity"]
    assert (found.beyond, found.scored, found.unscored, found.mean, found.on_average) == (0, 0, 1, None, False)


def test_damage_may_lie_below_and_the_threshold_itself_is_no_damage():
    below = Threshold(0.5, above=False)
    assert [below.passed(value) for value in (0.4, 0.5, 0.6)] == [True, False, False]
    assert [Threshold(0.5).passed(value) for value in (0.4, 0.5, 0.6)] == [False, False, True]
    assert THRESHOLDS["perplexity"].limit == 2.0
    assert 1 / THRESHOLDS["windowed_compression"].limit == pytest.approx(2.4)


def test_angles_are_counted_by_their_mean():
    """One bad answer in three moves no mean; two of three angles have a mean beyond 2."""
    perplexities = {0: [1.0, 1.0, 3.9], 10: [1.0, 1.0, 5.0], 20: [3.0, 3.0, 3.0]}
    angles = {degrees: count_violations([{"perplexity": value} for value in values]) for degrees, values in perplexities.items()}
    assert {degrees: found["perplexity"].beyond for degrees, found in angles.items()} == {0: 1, 10: 1, 20: 3}
    assert settings_beyond(angles) == {"perplexity": 2}
    assert settings_beyond({}) == {}


@pytest.mark.parametrize(("answers", "message"), [
    ([], "at least one answer"), ([{}], "at least one answer"), ([{"loop": 0.0}, {"empty": 0.0}], "same measures"), ([{"lop": 0.0}], "no threshold for lop"),
])
def test_measures_that_cannot_be_counted_are_refused(answers, message):
    with pytest.raises(ParameterError, match=message):
        count_violations(answers)
