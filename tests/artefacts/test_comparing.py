"""What two runs left, compared."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lenssteer.artefacts.comparing import Comparison, compare
from lenssteer.errors import FileError

finite = st.floats(-1e6, 1e6)
json_values = st.recursive(st.none() | st.booleans() | finite | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@given(json_values)
def test_a_value_is_equal_to_itself(value):
    found = Comparison()
    found.values("", value, json.loads(json.dumps(value)))
    assert (found.different, found.within) == ([], 0)


@given(finite, finite)
def test_numbers_differ_by_the_rule_that_is_written(one, other):
    found = Comparison(0.01)
    found.add("x", one, other)
    bound = 0.01 * max(1.0, abs(one), abs(other))
    assert bool(found.equal) == (one == other)
    if abs(abs(one - other) - bound) > 1e-9 * bound:
        assert bool(found.different) == (abs(one - other) > bound)


@pytest.mark.parametrize(("one", "other"), [
    ({"a": 1}, {}), ({"a": True}, {"a": 1.5}), ([1], [1, 2]), ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}), (None, 0),
    ({"calibration": "0" * 64}, {"calibration": "a path"}),
])
def test_other_kinds_lengths_and_texts_differ(one, other):
    found = Comparison()
    found.values("", one, other)
    assert len(found.different) == 1


def test_cost_versions_and_hashes_of_what_is_compared_itself_do_not_count():
    found = Comparison()
    found.values("", {"seconds": 1.5, "lenssteer": "1", "calibration": "0" * 64, "tensors": {"file": "t-0123456789abcdef.safetensors", "sha256": "0" * 64}},
                 {"seconds": 9.5, "lenssteer": "2", "calibration": "1" * 64, "tensors": {"file": "t-0023456789abcdef.safetensors", "sha256": "1" * 64}})
    assert (found.equal, found.different) == (0, [])


def tensors(folder, name, **values):
    folder.mkdir(exist_ok=True)
    save_file(values, folder / name)
    return folder


def test_tensors_are_compared_by_their_largest_entry(tmp_path):
    base = torch.tensor([100.0, 1.0, 0.0], dtype=torch.float64)
    one = tensors(tmp_path / "a", "t-0123456789abcdef.safetensors", x=base, y=base.clone())
    two = tensors(tmp_path / "b", "t-ffff456789abcdef.safetensors", x=base + torch.tensor([0.0, 5e-4, 0.0]), y=base.clone())
    found = compare(one, two)
    assert (found.equal, found.within, found.different) == (5, 1, [])
    assert found.largest == pytest.approx(5e-6)
    far = compare(one, tensors(tmp_path / "c", "t-eeee456789abcdef.safetensors", x=base + torch.tensor([0.0, 0.5, 0.25]), y=base.clone()))
    assert far.different == [("t.safetensors x: 2 of 3 entries, the worst at 1", 1.0, 1.5)]
    other = compare(one, tensors(tmp_path / "d", "t-dddd456789abcdef.safetensors", x=base[:2]))
    assert [where for where, *_ in other.different] == ["t.safetensors x", "t.safetensors y"]


def test_rows_are_matched_by_setting_and_files_by_name(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    rows = [{"cell": str(i), "method": "m", "amount": i, "n": 1, "scores": {"x": [i / 4]}, "cost": {"tokens": i}} for i in range(3)]
    (tmp_path / "a/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b/rows.jsonl").write_text("".join(json.dumps({**row, "cost": {"tokens": 9}}) + "\n" for row in reversed(rows)))
    for skipped in ("run.json", "page.html", ".hidden.json"):
        (tmp_path / "a" / skipped).write_text("not compared")
    assert compare(tmp_path / "a", tmp_path / "b").different == []
    (tmp_path / "b/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    (tmp_path / "b/more.json").write_text("{}")
    assert [(one, other) for _, one, other in compare(tmp_path / "a", tmp_path / "b").different] == [("absent", "there"), (rows[2], None)]


def test_a_damaged_file_is_told(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.json").write_text("{")
    with pytest.raises(FileError, match=r"x\.json"):
        compare(tmp_path / "a", tmp_path / "b")
