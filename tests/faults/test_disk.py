"""Disks that are full or cannot be written: one line that says what to do, nothing finished is lost."""

import os
import resource
import subprocess

import pytest

from tests.faults.dying import quick
from tests.faults.jobs import (
    calibrate,
    checkpoint,
    evaluate,
    gguf,
    kept_rows,
    read_calibration,
    read_checkpoint,
    sweep,
    torch,
)

FULL = "No space left on device"
ALL = {"calibrate": calibrate, "sweep": sweep, "eval": evaluate, "checkpoint": checkpoint, "gguf": gguf, "torch": torch}
TOO_LARGE = 40_000


@pytest.mark.parametrize(("name", "at"), [("calibrate", 60), ("sweep", 14), ("eval", 14), ("checkpoint", 9), ("gguf", 6), ("torch", 7)])
def test_a_disk_that_fills_up_midway(give, own, name, at):
    output = own / "out"
    code, said = give(ALL[name](output), at=at, half=True, fault="full")
    assert code == 1
    assert "Traceback" not in said
    assert FULL in said
    assert f"cannot write {output}" in said or f"cannot write {own}/.out" in said


def test_what_was_read_before_the_disk_filled_up_is_not_read_again(give, own):
    assert give(calibrate(own / "out"), at=60, half=True, fault="full")[0] == 1
    kept = len(kept_rows(own / "out"))
    assert 0 < kept < 48
    assert give(calibrate(own / "out"))[0] == 0
    rows = int((own / "counted").read_text().split()[1])
    assert give(calibrate(own / "whole"))[0] == 0
    assert rows == int((own / "counted").read_text().split()[1]) - kept


def test_files_that_the_system_refuses_to_let_grow(give, own):
    """A limit of the system's own, so that safetensors' writes fail too; as a quota does."""
    def limited():
        quick()
        resource.setrlimit(resource.RLIMIT_FSIZE, (TOO_LARGE, resource.RLIM_INFINITY))

    code, said = give(checkpoint(own / "out"), before=limited)
    assert code == 1
    assert "Traceback" not in said
    assert "FileError: cannot write" in said
    assert "File too large" in said
    assert not (own / "out").exists()
    assert give(checkpoint(own / "out"))[0] == 0
    assert read_checkpoint(own / "out")


def test_a_real_small_disk(give, own):
    small = own / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        code, said = give(calibrate(small / "out"))
        assert code == 1
        assert "Traceback" not in said
        assert "FileError: cannot write" in said
        assert FULL in said
        assert read_calibration(small / "out") is None
        subprocess.run(["mount", "-o", "remount,size=9m", str(small)], check=True, capture_output=True)
        assert give(calibrate(small / "out"))[0] == 0
        assert read_calibration(small / "out") is not None
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.parametrize("name", ["calibrate", "gguf", "torch"])
def test_a_folder_that_cannot_be_written(give, own, name):
    """/proc takes no new files from anybody."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    arguments = [argument.replace(str(own / "out"), "/proc/lenssteer") for argument in ALL[name](own / "out")]
    code, said = give(arguments, watch=False)
    assert code == 1
    assert "Traceback" not in said
    assert "FileError: cannot write" in said
    assert "/proc" in said
