"""Pieces of a result: kept under a hash of what they depend on, taken up by the same command, gone with the result."""

import json

import pytest
import torch

from lenssteer.artefacts import unfinished as module
from lenssteer.artefacts.lines import pieces_beside, pieces_inside
from lenssteer.artefacts.unfinished import FINISHED, Unfinished, unfinished
from lenssteer.errors import FileError


def broken_off(folder, work, about=None):
    """A block that an exception ends."""
    with pytest.raises(KeyboardInterrupt), unfinished(folder, "trying", about or {}) as kept:
        work(kept)
        raise KeyboardInterrupt


def test_pieces_are_taken_up_in_their_order_until_the_block_ends_well(tmp_path):
    folder = pieces_inside(tmp_path / "out")
    key = "a" * 64
    broken_off(folder, lambda kept: [kept.keep(key, {"n": n}) for n in (1, 2)])
    broken_off(folder, lambda kept: kept.keep(key, {"n": 3}))
    with unfinished(folder, "trying", {}) as kept:
        assert kept.found(key) == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert kept.found("b" * 64) == []
    assert not folder.exists()
    with unfinished(folder, "trying", {}) as kept:
        assert kept.found(key) == []


def test_tensors_come_back_bit_by_bit_and_alone_they_replace_what_was_there(tmp_path):
    folder, key, other = tmp_path / "x", "a" * 64, "b" * 64
    first, second = torch.randn(3, 5, dtype=torch.float64), torch.randn(2, 2)

    def work(kept):
        kept.keep_tensors(key, {"t": first})
        kept.keep_tensors(key, {"t": second})
        kept.keep_tensors(other, {"t": first})
        kept.keep_tensors(other, {"t": second + 1}, alone=True)

    broken_off(folder, work)
    with unfinished(folder, "trying", {}) as kept:
        assert [torch.equal(one["t"], wanted) for one, wanted in zip(kept.tensors(key, ("t",)), (first, second), strict=True)] == [True, True]
        [alone] = kept.tensors(other, ("t",))
        assert torch.equal(alone["t"], second + 1)
        with pytest.raises(FileError, match=r"tensors are missing\. Remove the folder"):
            kept.tensors(key, ("absent",))


def test_what_is_replaced_leaves_no_file(tmp_path):
    kept = Unfinished(tmp_path, {})
    for n in range(3):
        kept.keep_tensors("a" * 64, {"t": torch.full((4,), float(n))}, alone=True)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("change", [{"about": {"dtype": "bfloat16"}}, {"parts": {"model": "other"}}])
def test_a_key_depends_on_everything_it_is_told(tmp_path, change):
    whole = Unfinished(tmp_path, {"dtype": "float32"}).key(model="demo", n=[1, 2])
    assert whole == Unfinished(tmp_path, {"dtype": "float32"}).key(n=[1, 2], model="demo")
    other = Unfinished(tmp_path, change.get("about", {"dtype": "float32"})).key(**{"model": "demo", "n": [1, 2], **change.get("parts", {})})
    assert other != whole


def test_a_torn_line_and_a_torn_file_are_passed_over(tmp_path):
    broken_off(tmp_path / "x", lambda kept: kept.keep("a" * 64, {"n": 1}))
    with (tmp_path / "x" / FINISHED).open("a") as file:
        file.write('{"key": "aaa')
    (tmp_path / "x/.piece.safetensors.1-00.part").write_bytes(b"torn")
    broken_off(tmp_path / "x", lambda kept: kept.keep("a" * 64, {"n": 2}))
    assert [json.loads(line)["found"] for line in (tmp_path / "x" / FINISHED).read_text().splitlines()] == [{"n": 1}, {"n": 2}]
    assert not list((tmp_path / "x").glob("*.part"))


def test_another_process_is_refused(tmp_path):
    with unfinished(tmp_path / "x", "trying", {}), pytest.raises(FileError, match="another process is calibrating into"), \
            unfinished(tmp_path / "x", "calibrating into", {}):
        pass


def test_a_block_that_keeps_nothing_leaves_nothing(tmp_path):
    broken_off(tmp_path / "x", lambda kept: None)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("found", [{"x": float("nan")}, {"x": {1, 2}}])
def test_what_is_not_json_is_refused(tmp_path, found):
    with pytest.raises(FileError, match="cannot write"):
        Unfinished(tmp_path, {}).keep("a" * 64, found)
    assert not (tmp_path / FINISHED).exists()


def test_writing_again_is_due_seldom(tmp_path, monkeypatch):
    """Never more than a fortieth of the time, and not within two seconds."""
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    kept = Unfinished(tmp_path, {})
    now[0] = 1.9
    assert not kept.due
    now[0] = 2.0
    assert kept.due
    write = module.write_tensors

    def slow(*args):
        now[0] += 3.0
        return write(*args)

    monkeypatch.setattr(module, "write_tensors", slow)
    kept.keep_tensors("a" * 64, {"t": torch.ones(1)})
    now[0] += 119.0
    assert not kept.due
    now[0] += 1.0
    assert kept.due


def test_places_are_hidden_and_differ_by_name(tmp_path):
    assert pieces_inside(tmp_path) == tmp_path / ".unfinished"
    assert pieces_beside(tmp_path / "eval.json") == tmp_path / ".eval.json.unfinished"
