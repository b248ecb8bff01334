import numpy as np
import pytest
from scipy.stats import bootstrap

from lenssteer.errors import ParameterError
from lenssteer.evals import paired_difference


def test_the_interval_is_that_of_scipy_on_the_differences():
    draw = np.random.default_rng(1)
    ours, theirs = draw.random(80), draw.random(80) * 0.9
    found = paired_difference(list(ours), list(theirs), draws=20000)
    theirs_ci = bootstrap((ours - theirs,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(2))
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert found.low == pytest.approx(theirs_ci.confidence_interval.low, abs=5e-3)
    assert found.high == pytest.approx(theirs_ci.confidence_interval.high, abs=5e-3)


def test_what_makes_a_prompt_hard_cancels():
    """Scores that differ by the same amount on every prompt have an interval of no width, however prompts differ."""
    hard = np.linspace(0, 1, 30)
    found = paired_difference(list(hard + 0.25), list(hard))
    assert found.low == pytest.approx(0.25)
    assert found.high == pytest.approx(0.25)
    assert found.clear


def test_equal_settings_do_not_differ():
    assert not paired_difference([1.0, 0.0], [1.0, 0.0]).clear


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 0.0])])
def test_scores_without_partners_are_refused(ours, theirs):
    with pytest.raises(ParameterError, match="two scores a prompt"):
        paired_difference(ours, theirs)
