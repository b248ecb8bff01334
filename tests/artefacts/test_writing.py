"""Whatever a writer is killed at, the folder holds the old artefact whole or the new one whole."""

import contextlib
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.artefacts.writing import PART, append_line, write_text
from lenssteer.capture.store import ActivationStore
from lenssteer.errors import FileError
from lenssteer.recipe import Calibration
from lenssteer.site import Site
from lenssteer.steering import Steerer

SITE = Site(1, "resid_post")
FIXTURES = Path(__file__).parent / "fixtures"
STEPS = ("fsync", "replace", "open", "unlink", "close")


def killed(work, step: int) -> bool:
    """Run in a child that dies at the step-th call of the system's; whether it got to the end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = [step]

    def dying(call):
        def wrapped(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return call(*args, **options)
        return wrapped

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))
    with contextlib.suppress(BaseException):
        work()
        os._exit(0)
    os._exit(1)


def steerer(amount: float) -> Steerer:
    return Steerer({SITE: edits.add(torch.arange(1.0, 9.0), amount)}, provenance={"amount": amount})


def held(folder):
    """Which of two steerers a folder holds; None for none."""
    if not (folder / "steerer.json").exists():
        with pytest.raises(FileError, match=r"is not a saved steerer: steerer\.json is missing"):
            Steerer.load(folder)
        return None
    found = Steerer.load(folder)
    amount = found.provenance["amount"]
    h = torch.zeros(1, 8, dtype=torch.float64)
    torch.testing.assert_close(found.edits[SITE](h), amount * torch.arange(1.0, 9.0, dtype=torch.float64).unsqueeze(0), rtol=0, atol=1e-6)
    return amount


@pytest.mark.parametrize("before", [None, 1.0])
def test_a_steerer_killed_at_every_step(tmp_path, before):
    seen = []
    for step in range(40):
        folder = tmp_path / str(step)
        if before is not None:
            steerer(before).save(folder)
        done = killed(lambda folder=folder: steerer(2.0).save(folder), step)
        seen.append(held(folder))
        assert seen[-1] in (before, 2.0)
        steerer(2.0).save(folder)
        assert held(folder) == 2.0
        if done:
            break
    assert done
    assert seen[0] == before
    assert seen[-1] == 2.0
    assert len(seen) >= 9
    assert seen == sorted(seen, key=lambda amount: amount == 2.0)


def test_what_is_replaced_leaves_nothing_behind(tmp_path):
    steerer(1.0).save(tmp_path)
    steerer(2.0).save(tmp_path)
    assert sorted(one.suffix for one in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_artefacts_of_two_kinds_share_a_folder(tmp_path):
    """They used to share one tensors file, which the second overwrote."""
    found = Calibration.load(FIXTURES / "format_2/calibration")
    found.save(tmp_path)
    found.steerer("ablation").save(tmp_path)
    steerer(3.0).save(tmp_path)
    assert torch.equal(Calibration.load(tmp_path).moments.positive.mean, found.moments.positive.mean)
    assert held(tmp_path) == 3.0


def test_a_store_killed_at_every_step_is_not_there_or_whole(tmp_path):
    batch = (torch.tensor([0, 1]), torch.ones(1, 2, 4))
    for step in range(60):
        folder = tmp_path / str(step)
        done = killed(lambda folder=folder: ActivationStore.write(folder, [SITE], [batch, (batch[0] + 2, batch[1])], shard_size=2), step)
        if not (folder / "store.json").exists():
            with pytest.raises(FileError, match="holds no finished store"):
                ActivationStore.open(folder)
        else:
            assert ActivationStore.open(folder).site(SITE).shape == (4, 4)
        if done:
            break
    assert done
    assert step > 10


def test_a_text_killed_at_every_step(tmp_path):
    for step in range(20):
        path = tmp_path / f"{step}.json"
        path.write_text("old")
        done = killed(lambda path=path: write_text(path, "new"), step)
        assert path.read_text() in ("old", "new")
        if done:
            break
    assert done
    assert step > 3
    assert path.read_text() == "new"


@given(lines=st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b" ")), max_size=4), torn=st.binary(max_size=5).map(lambda b: b.replace(b"\n", b"")))
def test_a_torn_line_spoils_no_other(tmp_path_factory, lines, torn):
    path = tmp_path_factory.mktemp("lines") / "rows"
    path.write_bytes(torn)
    for line in lines:
        append_line(path, line)
    begin = torn + b"\n" if torn and lines else torn
    assert path.read_bytes() == begin + b"".join(line + b"\n" for line in lines)


def test_a_full_disk_takes_a_line_back(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    append_line(path, b"one")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        append_line(path, b"two")
    assert path.read_bytes() == b"one\n"


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    folder = steerer(1.0).save(tmp_path / "s")
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(FileError, match=r"cannot write .*No space"):
        steerer(2.0).save(folder)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before
    assert not list(folder.glob(f".*{PART}"))


def test_a_users_choice_of_file_may_be_a_link_or_a_device(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new", follow=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    write_text(Path("/dev/null"), "new", follow=True)
    assert not Path("/dev/null").is_file()


def test_an_artefact_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/steerer.json").symlink_to(tmp_path / "mine")
    steerer(1.0).save(tmp_path / "s")
    assert (tmp_path / "mine").read_text() == "mine"
    assert held(tmp_path / "s") == 1.0


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, torch.ones(2), object()])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(FileError, match=r"steerer\.json.*must be JSON"):
        Steerer({SITE: edits.add(torch.ones(8))}, provenance={"x": value}).save(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_files_have_the_mode_that_the_user_asks_for(tmp_path):
    """safetensors makes files for their owner alone, which a shared folder of steerers cannot use."""
    before = os.umask(0o022)
    try:
        folder = steerer(1.0).save(tmp_path / "s")
        assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o644}
    finally:
        os.umask(before)
