"""A slice of `python -m tests.artefacts.fuzz`: every reader, damaged in every way."""

import pytest

from lenssteer.errors import LenssteerError
from tests.artefacts.fuzz import Told, run_case
from tests.artefacts.readers import READERS


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_only_lenssteer_errors_come_out(reader):
    told = Told()
    for number in range(6 * reader.share):
        run_case(reader, number, 7, told)
    assert told.escaped == []
    assert told.read + sum(told.refused.values()) == told.cases


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@pytest.mark.filterwarnings("ignore")
def test_sound_files_are_read(reader, tmp_path):
    reader.make(tmp_path)
    assert reader.read(tmp_path) is not None


def test_the_harness_sees_what_escapes():
    """A reader that raises something else must be told of."""
    broken = READERS[0].__class__("broken", READERS[0].make, lambda _: {}["x"], ())
    sound = READERS[0].__class__("sound", READERS[0].make, lambda _: (_ for _ in ()).throw(LenssteerError("no")), ())
    told, well = Told(), Told()
    run_case(broken, 0, 0, told)
    run_case(sound, 0, 0, well)
    assert "KeyError" in told.escaped[0]
    assert (well.escaped, well.refused) == ([], {"LenssteerError": 1})
