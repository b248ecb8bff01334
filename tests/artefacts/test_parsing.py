"""JSON that means one thing, and headers that fit their file: on anything at all, only a FileError comes out."""

import io
import json
import math
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from lenssteer.artefacts import limits
from lenssteer.artefacts.header import read_header
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import opened, read_bytes, read_lines, read_object
from lenssteer.artefacts.tensors import read_tensors, write_tensors
from lenssteer.errors import FileError, PromptError

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12)


@given(VALUES, st.booleans())
def test_what_json_can_say_is_read(value, ascii):
    """Oracle: the value that was written."""
    assert parse(json.dumps(value, ensure_ascii=ascii), "x") == value


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_anything_is_read_or_refused(text):
    try:
        found = parse(text, "x")
    except FileError:
        return
    assert found == json.loads(text)


@pytest.mark.parametrize(("text", "message"), [
    ('{"a": 1, "a": 1}', "'a' stands twice"), ('[{"x": {"b": 1, "c": 2, "b": 3}}]', "'b' stands twice"),
    ("[NaN]", "NaN is no number"), ('{"a": -Infinity}', "-Infinity is no number"), ("1e999", "too large"), ("-1e0999", "too large"),
    ("9" * 400 + ".0", "too large"), ("9" * 19, "more than 18 digits"), ("-" + "9" * 5000, "more than 18 digits"),
    ("[" * 65 + "]" * 65, "deeper than 64"), ('{"a":' * 65 + "1" + "}" * 65, "deeper than 64"), ("[" * 10**6, "is damaged"),
    ('"\\ud800"', "half of a character"), ('{"\\udfff": 1}', "half of a character"), (b"\xff", "is damaged"), ("", "is damaged"), ("[1] x", "is damaged"),
])
def test_what_means_several_things_or_none_is_refused(text, message):
    with pytest.raises(FileError, match=message):
        parse(text, "file.json")
    with pytest.raises(PromptError, match=r"^file\.json is odd: "):
        parse(text, "file.json", fault="is odd", error=PromptError)


def test_what_only_looks_like_it_is_read():
    assert parse('["' + "[" * 500 + '", "\\"[[", "{"]', "x")[1:] == ['"[[', "{"]
    assert parse("[" * 64 + "]" * 64, "x")
    assert parse("9" * 18, "x") == int("9" * 18)
    assert parse('"\\ud83d\\ude42"', "x") == "🙂"
    assert math.isnan(parse("[NaN]", "x", constants=True)[0])


def test_a_hostile_text_takes_no_long():
    """Linear: a text of many keys, or of many quotes in a string that stays open."""
    many = json.dumps({str(i): i for i in range(100_000)})
    assert len(parse(many, "x")) == 100_000
    with pytest.raises(FileError, match="stands twice"):
        parse(many[:-1] + ', "99999": 1}', "x")
    with pytest.raises(FileError, match="is damaged"):
        parse("[" * 70 + '"' + '\\"' * 10**6, "x")


@given(st.binary(max_size=80), st.integers(0, 200))
def test_any_header_is_read_or_refused(content, size):
    try:
        read_header(io.BytesIO(content), size, "x")
    except FileError:
        return
    assert size > 8


NAMED = st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1, max_size=8).filter(lambda s: s != "__metadata__"),
                        st.sampled_from([np.ones((2, 3)), np.zeros(0), np.float32(3), np.arange(4), np.ones((1, 2, 1), np.float16)]), max_size=4)


@given(NAMED, st.data())
def test_headers_of_safetensors_are_read_and_their_damage_is_refused(arrays, data):
    """Oracle: the arrays that safetensors itself wrote; a byte more or less never passes."""
    content = save({name: np.asarray(array) for name, array in arrays.items()}, {"a": "b"} if data.draw(st.booleans()) else None)
    found = read_header(io.BytesIO(content), len(content), "x")
    assert {name: entry.shape for name, entry in found.items()} == {name: np.shape(array) for name, array in arrays.items()}
    for wrong in (content[:-1], content + b"x"):
        if len(wrong) >= 8 + struct.unpack("<Q", content[:8])[0] + 1 or wrong != content[:-1]:
            with pytest.raises(FileError, match="damaged"):
                read_header(io.BytesIO(wrong), len(wrong), "x")


def headed(header, body=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(("content", "message"), [
    (b"", "cut short"), (b"\0" * 8, "cut short"), (struct.pack("<Q", 2**63) + b"{}", "cut short"), (headed([]), "no object"),
    (headed({"__metadata__": {"a": 1}}), "no object"), (headed(b'{"a": 1, "a": 2}'), "stands twice"),
    (headed({"a": {"dtype": "F64", "shape": [2**30, 2**30], "data_offsets": [0, 8]}}, bytes(8)), "does not take the 8 bytes"),
    (headed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "begins at byte 0, where 4"),
    (headed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)), "begins at byte 4, where 0"),
    (headed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(8)), "take 4 bytes, and 8 follow"),
    (headed({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "has dtype 'F4'"),
    (headed({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)), "no lists of whole numbers"),
    (headed({"a": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, bytes(4)), "no lists of whole numbers"),
    (headed({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)), "no lists of whole numbers"),
    (headed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), "not described by"),
    (headed({"a" * 600: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "not described by"),
])
def test_headers_that_lie_are_refused(content, message):
    with pytest.raises(FileError, match=message):
        read_header(io.BytesIO(content), len(content), "x")


def test_nothing_is_allocated_for_what_a_file_only_claims(tmp_path):
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(headed({"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}, bytes(64)))
    os.truncate(path, 2**40)
    tracemalloc.start()
    for read in (lambda: read_tensors(path), lambda: read_bytes(path), lambda: read_object(path)):
        with pytest.raises(FileError, match="bytes"):
            read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_every_flipped_byte_of_hashed_tensors_is_seen(tmp_path):
    import torch

    told = write_tensors(tmp_path, "tensors", {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float64)})
    path = tmp_path / told.file
    content = path.read_bytes()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1:])
        with pytest.raises(FileError, match=r"damaged|dtype"):
            read_tensors(path, sha256=told.sha256)
    path.write_bytes(content)
    assert torch.equal(read_tensors(path, sha256=told.sha256)["a"], torch.arange(3.0))


def test_what_is_no_regular_file_inside_is_refused_without_waiting(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (tmp_path / "other").write_text("{}")
    (folder / "out").symlink_to(tmp_path / "other")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    for name, message in (("out", "leads out of"), ("up/other", "leads out of"), ("../other", "leads out of"), ("loop", "no name of a file"),
                          ("zero", "leads out of"), ("pipe", "no regular file"), (".", "no regular file"), ("a\0b", "no name of a file")):
        with pytest.raises(FileError, match=message), opened(folder / name, 10, folder=folder):
            pass
    with pytest.raises(FileError, match="no regular file"):
        read_bytes(folder / "zero")
    (folder / "in").symlink_to(folder / "real")
    (folder / "real").write_text("{}")
    assert read_bytes(folder / "in", folder=folder) == b"{}"


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b" ")), max_size=4), st.binary(max_size=6).map(lambda b: b.replace(b"\n", b" ")))
def test_whole_lines_are_read_one_by_one(tmp_path_factory, lines, torn):
    path = tmp_path_factory.mktemp("lines") / "x"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + torn)
    assert list(read_lines(path, 6)) == list(enumerate(lines, start=1))
    if lines:
        start = len(lines[0]) + 1
        assert [line for _, line in read_lines(path, 6, start=start)] == lines[1:]


def test_a_line_without_end_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"ab\n" + bytes(9))
    with pytest.raises(FileError, match="line 2 has more than 4 bytes"):
        list(read_lines(tmp_path / "x", 4))


def test_limits_leave_room_for_what_lenssteer_writes():
    """A calibration of 200 sites and 100 000 prompts describes itself in less."""
    described = {"seen": ["0" * 16] * 100_000, "table": [{"site": "resid_post.100", "length": 1.0 / 3} | {str(i): 1 / 3 for i in range(6)}] * 200}
    assert len(json.dumps(described, indent=2)) < limits.DESCRIPTION / 2
