"""Ctrl-C: one line that says what is kept and how to go on, exit code 130, and the same command does."""

import pytest

from tests.faults.dying import content
from tests.faults.jobs import calibrate, checkpoint, evaluate, kept_rows, pieces, sweep, torch


def interrupt(give, arguments, at):
    code, said = give(arguments, at=at, fault="interrupt")
    assert code == 130, said
    assert "Traceback" not in said
    return said.partition("Interrupted: ")[2]


def test_a_calibration_goes_on(give, own):
    output = own / "out"
    said = interrupt(give, calibrate(output), 60)
    assert f"what is finished is kept in {output}/.unfinished; the same command goes on from there." in said
    kept = len(kept_rows(output))
    assert kept > 0
    assert give(calibrate(output))[0] == 0
    did = int((own / "counted").read_text().split()[1])
    assert give(calibrate(own / "whole"))[0] == 0
    assert did == int((own / "counted").read_text().split()[1]) - kept
    assert content(output)["out/calibration.json"] == content(own / "whole")["whole/calibration.json"]


def test_a_sweep_says_that_its_cells_are_kept(give, own):
    said = interrupt(give, sweep(own / "out"), 16)
    assert f"what is finished is kept in {own}/out; the same command goes on from there." in said
    assert (own / "out/rows.jsonl").read_bytes().count(b"\n") > 0


def test_tasks_that_were_measured_are_kept(give, own):
    output = own / "out.json"
    said = interrupt(give, evaluate(output), 10)
    assert f"what is finished is kept in {own}/.out.json.unfinished; the same command goes on from there." in said
    kept = len(pieces(output))
    assert 0 < kept < 6
    assert give(evaluate(output))[0] == 0
    assert int((own / "counted").read_text().split()[2]) == 6 - kept
    assert {one.name for one in own.iterdir()} == {"said", "counted", "out.json", "out.run.json"}


@pytest.mark.parametrize(("command", "at"), [(checkpoint, 8), (torch, 6)])
def test_an_export_leaves_nothing(give, own, command, at):
    output = own / "out"
    said = interrupt(give, command(output), at)
    assert "nothing was written; the same command begins anew." in said
    assert not output.exists() or list(output.iterdir()) == []
    assert [one.name for one in own.iterdir() if one.name.startswith(".")] == []


def test_before_anything_is_finished_nothing_is_said_to_be_kept(give, own):
    said = interrupt(give, calibrate(own / "out"), 3)
    assert "nothing was written; the same command begins anew." in said
