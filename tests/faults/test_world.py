"""What others do meanwhile: another process at the same output, a model or a folder that goes, a clock that jumps, memory
that is full."""

import random
import re
import shutil
import time

import pytest
from filelock import FileLock

from lenssteer.models.demo import WEIGHTS
from tests.faults.dying import content, quick
from tests.faults.jobs import calibrate, checkpoint, evaluate, gguf, kept_rows, sweep, torch


@pytest.mark.parametrize(("command", "locked"), [
    (calibrate, "out/.unfinished"), (sweep, "out"), (evaluate, ".out.unfinished"), (checkpoint, ".out.part"), (gguf, ".out.part"), (torch, "out/.steer.py.part")])
def test_a_second_process_at_one_output_is_refused(give, own, command, locked):
    folder = own / locked
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        code, said = give(command(own / "out"), watch=False)
        assert code == 1
        assert "FileError: another process is" in said
        assert "wait for it, or choose another folder" in said


def gone_after(model, times):
    """In a child: the folder of a model goes once it was looked into, or loaded, so many times."""
    def before():
        import lenssteer.models
        from lenssteer.models.checkpoint import Checkpoint

        left = [times]

        def going(call):
            def run(*args, **options):
                found = call(*args, **options)
                left[0] -= 1
                if not left[0]:
                    shutil.rmtree(model)
                return found

            return run

        quick()
        lenssteer.models.load_model = going(lenssteer.models.load_model)
        Checkpoint.open = staticmethod(going(Checkpoint.open))

    return before


@pytest.fixture
def model(own):
    return shutil.copytree(WEIGHTS, own / "model")


def test_a_model_that_goes_once_it_is_loaded_is_not_missed(give, own, model):
    arguments = [str(model) if argument == "demo" else argument for argument in calibrate(own / "out")]
    code, said = give(arguments, before=gone_after(model, 1), watch=False)
    assert code == 0, said
    assert not model.exists()
    code, said = give(arguments, watch=False)
    assert code == 1
    assert "ModelError" in said
    assert "Traceback" not in said


def test_a_model_that_goes_before_its_weights_are_copied(give, own, model):
    arguments = [str(model) if argument == "demo" else argument for argument in checkpoint(own / "out")]
    code, said = give(arguments, before=gone_after(model, 2), watch=False)
    assert code == 1
    assert f"FileError: {model}/model.safetensors has gone since it was first read; bring the folder back" in said
    assert "Traceback" not in said
    assert not (own / "out").exists()


def test_a_run_whose_folder_goes_says_so(give, own):
    def before():
        from lenssteer.sweeps.folder import RunFolder

        append = RunFolder.append

        def appending(self, row):
            shutil.rmtree(self.folder)
            append(self, row)

        quick()
        RunFolder.append = appending

    code, said = give(sweep(own / "out"), before=before, watch=False)
    assert code == 1
    assert f"FileError: cannot write {own}/out/rows.jsonl" in said
    assert "Traceback" not in said


def test_a_clock_that_jumps_changes_nothing(give, own):
    def before():
        quick()
        draw = random.Random(0)
        time.time = lambda: draw.uniform(-1e9, 4e9)

    assert give(sweep(own / "out"), before=before, watch=False)[0] == 0
    assert give(sweep(own / "whole"), watch=False)[0] == 0
    names = ("rows.jsonl", "calibration.json")
    found, whole = ([one for path, one in content(own / name).items() if path.endswith(names)] for name in ("out", "whole"))
    assert found == whole
    seconds = list(took(own / "out"))
    assert seconds
    assert all(0 <= value < 60 for value in seconds)


def took(folder):
    """Every number of seconds that a run has recorded."""
    for path in folder.iterdir():
        if path.name in ("rows.jsonl", "calibration.json"):
            for line in path.read_text().splitlines():
                found = re.findall(r'"seconds": ([-0-9.e]+)', line)
                yield from map(float, found)


def test_memory_that_is_full_ends_in_one_line_and_what_was_read_is_kept(give, own):
    def before():
        from lenssteer.models.lens import LensModel

        run, runs = LensModel.run, []

        def running(self, ids, *args, **options):
            runs.append(1)
            if len(runs) > 30:
                raise MemoryError
            return run(self, ids, *args, **options)

        quick()
        LensModel.run = running

    code, said = give(calibrate(own / "out"), before=before)
    assert code == 1
    assert "ModelError: one prompt of" in said
    assert "free memory" in said
    kept = len(kept_rows(own / "out"))
    assert 0 < kept < 48
    assert give(calibrate(own / "out"))[0] == 0
