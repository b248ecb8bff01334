"""Damage: what happens to files, and what somebody may do to them on purpose. All of it is drawn from one `Random`."""

import json
import os
import re
import shutil
import struct
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

HUGE = "9" * 400
HOSTILE: tuple[str, ...] = (
    "null", "true", "false", "0", "-1", "1", "3", "1e308", "-1e308", "1e999", HUGE, f"{HUGE}.0", "9223372036854775808", "18446744073709551616",
    "NaN", "Infinity", "-Infinity", '""', '" "', '"../../../../etc/passwd"', '"/etc/passwd"', '"..\\\\..\\\\x"', '"\\u0000"', '"\\ud800"',
    '"a\\u202e\\u2028b"', json.dumps("a" * 100_000), "[]", "{}", "[[]]", "[null]", "[0]", '[""]', '{"": null}', '{"a": 1, "a": 2}',
    "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "[" * 50 + "]" * 50, "[1e400]", '["x", 1, null, {}]',
    '{"and": [0, {"or": [0]}]}', '{"not": [0, 0]}', "99", "1.5", '"resid_post.99999"', '"steerer.json"', '"tensors.safetensors"', '"sae"',
)
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 2**31, 2**32 - 1, 2**53, 2**62, 2**63, 2**64 - 1)
SHAPES = ([], [-1, 2], [2.5], "x", None, [True])
OFFSETS = ([0, 0], [8, 0], [-8, 8], [0], None, "ab")
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "BOOL", "F4", "C64", "", "f32")


def damage(folder: Path, draw: Random) -> str:
    """Damage one or two files of a folder; what was done, in a word."""
    files = sorted(one for one in folder.rglob("*") if one.is_file() and one.suffix != ".lock" and one.name != "lock")
    said = []
    for _ in range(draw.choice((1, 1, 1, 2))):
        file = draw.choice(files)
        kinds = [as_bytes] * 2 + [as_place]
        if file.suffix in (".json", ".jsonl", ".journal"):
            kinds = [as_bytes, as_json, as_json, as_json, as_json, as_text, as_text] + [as_place] * (draw.random() < 0.3)
        elif file.suffix == ".safetensors":
            kinds = [as_bytes, as_header, as_header, as_header, as_payload] + [as_place] * (draw.random() < 0.3)
        elif file.suffix == ".gguf":
            kinds = [as_bytes, as_number, as_number, as_number] + [as_place] * (draw.random() < 0.3)
        if file.is_file() and not file.is_symlink() and file.stat().st_size < 2**24:
            said.append(draw.choice(kinds)(file, draw))
            if file.suffix == ".safetensors" and draw.random() < 0.6:
                said.append(rehashed(file, folder))
    return ", ".join(said)


def as_bytes(file: Path, draw: Random) -> str:
    content, kind = bytearray(file.read_bytes()), draw.choice(("cut", "flip", "insert", "remove", "zero", "random", "empty", "twice"))
    at, length = draw.randrange(len(content) + 1), draw.choice((1, 2, 8, 64, 1024))
    if kind == "cut":
        del content[at:]
    elif kind == "flip":
        for _ in range(draw.choice((1, 1, 2, 8))):
            if content:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "insert":
        content[at:at] = draw.randbytes(length)
    elif kind == "remove":
        del content[at : at + length]
    elif kind == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "twice":
        content += content[at:]
    else:
        content = bytearray(draw.randbytes(draw.choice((0, 1, 9, 300))) if kind == "random" else b"")
    file.write_bytes(content)
    return kind


def as_number(file: Path, draw: Random) -> str:
    """Four or eight bytes of the head become a number that claims something: a length, a count, a type, an offset."""
    content, wide = bytearray(file.read_bytes()), draw.random() < 0.6
    at = draw.randrange(max(min(len(content), 320) - 8, 1))
    number = draw.choice((*NUMBERS, *range(16)))
    content[at : at + (8 if wide else 4)] = struct.pack("<Q", number) if wide else struct.pack("<I", number % 2**32)
    file.write_bytes(content)
    return "number"


def as_text(file: Path, draw: Random) -> str:
    """One JSON value of the text becomes a hostile one; a key comes twice; lines change places."""
    text = file.read_text(errors="replace")
    values = list(re.finditer(r'(?<=: )("[^"\n]*"|[-\w.]+)', text))
    if not values:
        return "nothing"
    one = draw.choice(values)
    kind = draw.choice(("value", "value", "again", "depth"))
    if kind == "value":
        text = text[: one.start()] + draw.choice(HOSTILE) + text[one.end():]
    elif kind == "again":
        key = re.search(r'"[^"\n]*": $', text[: one.start()])
        text = text[: one.end()] + ", " + (key[0] if key else '"x": ') + draw.choice(HOSTILE[:8]) + text[one.end():]
    else:
        depth = draw.choice((60, 63, 64, 65, 200, 990, 100_000))
        text = text[: one.start()] + "[" * depth + "]" * depth + text[one.end():]
    file.write_text(text, errors="replace")
    return kind


def as_json(file: Path, draw: Random) -> str:
    """A part of the JSON, or of one line of it, is replaced, removed, renamed or doubled."""
    text = file.read_text(errors="replace")
    lines = text.split("\n") if file.suffix != ".json" else [text]
    number = draw.randrange(len(lines))
    try:
        found = json.loads(lines[number])
    except (ValueError, RecursionError):
        return "nothing"
    places = list(_places(found))
    if not places:
        return "nothing"
    holder, key = draw.choice(places)
    kind = draw.choice(("replace", "replace", "replace", "remove", "rename", "extra", "swap", "version"))
    mark = "\u241fHERE\u241f"
    if kind == "remove":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[draw.choice(("x", "..", "__class__", key + " ", key.upper()))] = holder.pop(key)
    elif kind == "extra" and isinstance(holder, dict):
        holder[draw.choice(("evil", "__init__", "tensors", "gate", "error", "f1", "kind"))] = mark
    elif kind == "swap":
        other, at = draw.choice(places)
        try:
            holder[key], other[at] = other[at], holder[key]
        except (KeyError, IndexError):
            return "nothing"
    elif kind == "version" and isinstance(found, dict):
        found["format"] = mark
    else:
        holder[key] = mark
    try:
        text = json.dumps(found, indent=None if file.suffix != ".json" else 2)
    except (ValueError, RecursionError):
        return "nothing"
    lines[number] = text.replace(json.dumps(mark), draw.choice(HOSTILE))
    file.write_text("\n".join(lines), errors="replace")
    return kind


def _places(value: Any) -> list[tuple[Any, Any]]:
    waiting, found = [value], []
    while waiting:
        one = waiting.pop()
        inner = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        found += [(one, key) for key, _ in inner]
        waiting += [part for _, part in inner]
    return found


def as_header(file: Path, draw: Random) -> str:
    """The header of a safetensors file claims something else."""
    content = file.read_bytes()
    try:
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        if not isinstance(header, dict):
            return "nothing"
    except (ValueError, RecursionError, struct.error):
        return "nothing"
    kind = draw.choice(("length", "shape", "dtype", "offsets", "name", "again", "metadata", "entry", "many", "bomb"))
    name = draw.choice([name for name in header if name != "__metadata__"] or ["x"])
    entry = header.setdefault(name, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    if kind == "length":
        file.write_bytes(struct.pack("<Q", draw.choice(NUMBERS)) + content[8:])
        return kind
    if not isinstance(entry, dict):
        return "nothing"
    if kind in ("shape", "dtype", "offsets"):
        field = {"offsets": "data_offsets"}.get(kind, kind)
        entry[field] = draw.choice((*OFFSETS, [draw.choice(NUMBERS), draw.choice(NUMBERS)]) if kind == "offsets" else
                                   (*DTYPES, None, 3, []) if kind == "dtype" else
                                   (*SHAPES, [draw.choice(NUMBERS)] * draw.randrange(1, 12)))
    elif kind == "bomb":
        header = {name: {"dtype": "F64", "shape": [2**20, 2**20, 2**10], "data_offsets": [0, 2**53]}}
    elif kind != "again":
        _rewritten(header, name, entry, kind, draw)
    text = json.dumps(header)
    if kind == "again":
        text = text[:-1] + ", " + json.dumps(name) + ": " + json.dumps(entry) + "}"
    file.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + content[8 + length:])
    return kind


def _rewritten(header: dict[str, Any], name: str, entry: dict[str, Any], kind: str, draw: Random) -> None:
    if kind == "name":
        header[draw.choice(("../../x", "/etc/passwd", "", "a" * 100_000, "\x00", "__metadata__"))] = header.pop(name)
    elif kind == "metadata":
        header["__metadata__"] = draw.choice(({"a": "b"}, {"a": 1}, [], None, "x", {"a": {"b": "c"}}))
    elif kind == "entry":
        header[name] = draw.choice((None, [], {}, 3, {**entry, "x": 1}, {"dtype": "F32"}))
    elif kind == "many":
        header |= {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(2000)}


def as_payload(file: Path, draw: Random) -> str:
    """Values become NaN, infinite, or as large as can be."""
    content = bytearray(file.read_bytes())
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    value = draw.choice((b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x00\x00\x00\x00\x00\x00\xf0\x7f", b"\xff\xff\xff\xff\xff\xff\xef\x7f",
                         b"\x00\x00\x80\x7f\x00\x00\x80\x7f", bytes(8), b"\xff" * 8))
    begin, end = 8 + min(length, len(content)), len(content)
    if begin >= end:
        return "nothing"
    if draw.random() < 0.5:
        content[begin:end] = (value * ((end - begin) // 8 + 1))[: end - begin]
    else:
        at = begin + 8 * draw.randrange((end - begin) // 8 + 1)
        content[at : at + 8] = value[: end - at]
    file.write_bytes(content)
    return "payload"


def as_place(file: Path, draw: Random) -> str:
    """Something else stands where the file should be."""
    kind = draw.choice(("folder", "gone", "outside", "endless", "loop", "pipe", "sparse", "dangling"))
    content = file.read_bytes()
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "outside":
        elsewhere = file.parent.parent / "elsewhere"
        elsewhere.write_bytes(content)
        file.symlink_to(elsewhere)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "sparse":
        file.write_bytes(content)
        os.truncate(file, 2 ** draw.choice((33, 38, 42)))
    elif kind == "dangling":
        file.symlink_to(file.parent / "nothing")
    return kind


def rehashed(file: Path, folder: Path) -> str:
    """The description names the damaged tensors by their hash, as whoever meant it would."""
    if not file.is_file() or file.is_symlink() or file.stat().st_size > 2**24:
        return "not rehashed"
    digest = sha256(file.read_bytes()).hexdigest()
    for one in folder.glob("*.json"):
        if one.is_file() and not one.is_symlink() and one.stat().st_size < 2**24 and (old := re.search(r"-([0-9a-f]{16})\.safetensors$", file.name)):
            text = re.sub(old[1] + "[0-9a-f]{48}", digest, one.read_text(errors="replace"))
            one.write_text(text.replace(file.name, file.name.replace(old[1], digest[:16])), errors="replace")
            if file.exists():
                shutil.move(file, file.with_name(file.name.replace(old[1], digest[:16])))
    return "rehashed"
