import numpy as np
import pytest

from lenssteer.bench.timing import Clock, Ratio, interval, ratio
from lenssteer.errors import ParameterError


class Fake:
    """A clock that work itself moves on."""

    def __init__(self):
        self.now = 0.0
        self.log = []
        self.clock = Clock(wall=lambda: self.now, cpu=lambda: self.now / 2, settle=lambda: None)

    def work(self, name, seconds):
        def done():
            self.log.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return done


def test_pairs_alternate_after_one_warm_up():
    fake = Fake()
    found = ratio(fake.work("over", 6), fake.work("under", 2), "x", repeats=3, clock=fake.clock)
    assert fake.log == ["over", "under"] + ["under", "over"] * 3
    assert (found.median, found.low, found.high, found.cpu) == (3, 3, 3, 3)
    assert (found.over, found.under, found.pairs) == (6, 2, 3)


def test_a_machine_that_slows_down_slows_both():
    """Every pair twice as slow as the one before: the ratio of each is the same."""
    fake = Fake()
    slow = iter(2.0 ** (i // 2) for i in range(100))
    found = ratio(fake.work("over", lambda: 3 * next(slow)), fake.work("under", lambda: next(slow)), "x", repeats=5,
                  clock=fake.clock)
    assert (found.low, found.high) == (3, 3)


def test_short_work_is_done_several_times_and_told_once():
    fake = Fake()
    found = ratio(fake.work("over", 4), fake.work("under", 2), "x", repeats=1, calls=5, warm=0, clock=fake.clock)
    assert fake.log == ["under"] * 5 + ["over"] * 5
    assert (found.over, found.under, found.median) == (4, 2, 2)


def test_the_interval_is_the_bootstrap_of_the_median():
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    draw = np.random.default_rng(0)
    medians = [np.median(np.array(values)[draw.integers(0, 5, 5)]) for _ in range(20000)]
    low, high = interval(values, draws=20000, seed=1)
    assert (low, high) == tuple(np.percentile(medians, [2.5, 97.5]))


@pytest.mark.parametrize(("better", "median", "met"), [("lower", 1.05, True), ("lower", 1.06, False),
                                                       ("higher", 20.0, True), ("higher", 19.9, False)])
def test_targets_are_met_or_missed(better, median, met):
    found = Ratio(median, 1, 2, 3, None, 1, 1, "x", 1.05 if better == "lower" else 20.0, better)
    assert found.met is met
    assert found.as_dict()["met"] is met


def test_without_a_target_nothing_is_met():
    assert Ratio(1, 1, 1, 1, None, 1, 1, "x").met is None


def test_more_findings_stand_beside_the_ratio():
    assert Ratio(1, 1, 1, 1, None, 1, 1, "x", more={"same_angle": True}).as_dict()["same_angle"] is True


def test_no_pair_is_refused():
    with pytest.raises(ParameterError, match="one pair or more"):
        ratio(lambda: None, lambda: None, "x", repeats=0)
