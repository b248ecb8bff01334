"""Commands in forked children of the tests' own process."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.faults.dying import begin, ended, preload
from tests.faults.jobs import material


@pytest.fixture(scope="session")
def place(demo):
    """A folder with prompts, tasks and a calibration; outputs go into folders inside it. In memory, where flushing is
    quick."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    preload()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None, ignore_cleanup_errors=True) as folder:
        material(Path(folder))
        yield Path(folder)


@pytest.fixture
def own(place):
    """A folder of a test's own inside it."""
    return Path(tempfile.mkdtemp(dir=place))


@pytest.fixture
def give(own):
    """Give a command in a child; its exit code and what it said. Options are those of `begin`."""
    def run(arguments, **options):
        before = (own / "said").stat().st_size if (own / "said").exists() else 0
        code = ended(begin(arguments, own, **options))
        return code, " ".join((own / "said").read_bytes()[before:].decode().split())

    return run
