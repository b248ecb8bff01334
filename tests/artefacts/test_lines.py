"""Folders of one process, and files of lines after a kill."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenssteer.artefacts.lines import drop_torn_line, only_process
from lenssteer.errors import FileError


def test_a_second_process_is_refused_and_the_lock_dies_with_its_holder(tmp_path):
    code = ("import sys, time; from pathlib import Path; from lenssteer.artefacts.lines import only_process\n"
            "with only_process(Path(sys.argv[1]), 'sweeping into'):\n    print('in', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "new")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "in\n"
    with pytest.raises(FileError, match="another process is searching in"), only_process(tmp_path / "new", "searching in"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with only_process(tmp_path / "new", "searching in"):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"), only_process(tmp_path / "file" / "run", "sweeping into"):
        pass


@given(lines=st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\n", b" ")), max_size=4),
       torn=st.binary(max_size=8).map(lambda b: b.replace(b"\n", b" ")))
def test_whole_lines_stay_and_the_torn_one_goes(tmp_path_factory, lines, torn):
    path = tmp_path_factory.mktemp("lines") / "rows"
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole + torn)
    drop_torn_line(path)
    assert path.read_bytes() == whole
    drop_torn_line(path.with_name("absent"))
