"""A few kills of every command; `python -m tests.faults.kills` does many."""

from random import Random

import pytest

from tests.faults.jobs import JOBS
from tests.faults.kills import Told, story, uninterrupted

QUICK = [JOBS["calibrate"][0], JOBS["sweep"][0], *JOBS["export"]]


@pytest.mark.parametrize("job", QUICK, ids=lambda job: job.name)
def test_killed_and_given_again_it_writes_what_an_uninterrupted_run_writes(job, place, own):
    for one in place.iterdir():
        if one.name in ("data", "calibration") or one.suffix == ".txt":
            (own / one.name).symlink_to(one)
    whole, told, draw = uninterrupted(job, own, twice=False), Told(), Random(job.name)
    while not told.kills:
        story(job, whole, own, draw, 1, "kill", told)
    assert told.lost == []
