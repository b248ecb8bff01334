"""The header of a safetensors file, checked against the size of the file before any tensor is read.

    8 bytes   length of the header, little-endian
    header    JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {name: text}}
    the rest  the tensors, one after the other, without gap or overlap
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.artefacts.parsing import parse
from lenssteer.errors import FileError

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
         "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of a value of each dtype that may come."""
METADATA = "__metadata__"
LONGEST_NAME = 512
Shapes = Mapping[str, tuple[int | None, ...] | None]


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: its dtype as safetensors writes it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(file: BufferedIOBase, size: int, where: object) -> dict[str, Entry]:
    """The tensors of an open file, by name.

    Args:
        file: At its beginning.
        size: Bytes of the whole file.
        where: What messages begin with.

    Raises:
        FileError: when the header is cut short, too long or no JSON, or its tensors do not fill the file exactly.
    """
    first = file.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
    if not 2 <= length <= min(limits.HEADER, size - 8):
        raise FileError(f"{where} is damaged: it is no safetensors file, or was cut short ({size} bytes, of which its "
                        f"header claims {length}). Copy it again, or make it again.")
    header = parse(file.read(length), where)
    if not isinstance(header, dict) or not _is_metadata(header.pop(METADATA, {})) or len(header) > limits.ARRAYS:
        raise FileError(f"{where} is damaged: its header is no object of at most {limits.ARRAYS} tensors.")
    places = {name: _place(name, entry, where) for name, entry in header.items()}
    end = 0
    for name, (begin, stop) in sorted(places.items(), key=lambda item: item[1]):
        if begin != end:
            raise FileError(f"{where} is damaged: {name[:80]!r} begins at byte {begin}, where {end} was expected; "
                            "tensors lie one after the other.")
        end = stop
    if end != size - 8 - length:
        raise FileError(f"{where} is damaged: its tensors take {end} bytes, and {size - 8 - length} follow the header. "
                        "Copy it again, or make it again.")
    return {name: Entry(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def _is_metadata(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, str) for value in found.values())


def _place(name: str, entry: Any, where: object) -> tuple[int, int]:
    """Where a tensor lies, which its dtype and shape must agree with."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"} or len(name) > LONGEST_NAME:
        raise FileError(f"{where} is damaged: {name[:80]!r} is not described by dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise FileError(f"{where}: {name[:80]!r} has dtype {str(dtype)[:20]!r}; expected one of {', '.join(BYTES)}.")
    if not (_are_sizes(shape) and len(shape) <= limits.AXES and _are_sizes(offsets) and len(offsets) == 2):
        raise FileError(f"{where} is damaged: shape and data_offsets of {name[:80]!r} are no lists of whole numbers.")
    if math.prod(shape) * BYTES[dtype] != offsets[1] - offsets[0]:
        raise FileError(f"{where} is damaged: {name[:80]!r} is {dtype} {shape}, which does not take the "
                        f"{offsets[1] - offsets[0]} bytes it has.")
    return offsets[0], offsets[1]


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def refuse_others(found: Mapping[str, Entry], shapes: Shapes, optional: Shapes, dtypes: tuple[str, ...],
                  where: object) -> None:
    """Refuse a file whose tensors are not the ones its description names.

    Args:
        found: As `read_header` gives them.
        shapes: Those there must be, by name; None for any shape, or for any length of an axis.
        optional: Those there may be.
        dtypes: Which may come.
        where: What messages begin with.

    Raises:
        FileError: with the first tensor that is missing, foreign, or of another shape or dtype.
    """
    missing, foreign = sorted(shapes.keys() - found.keys()), sorted(found.keys() - shapes.keys() - optional.keys())
    if missing or foreign:
        raise FileError(f"{where} is damaged: it {'lacks' if missing else 'also holds'} the tensor "
                        f"{(missing or foreign)[0][:80]!r}. It and its description are not of one piece; copy both "
                        "again, or make them again.")
    for name, entry in found.items():
        shape = shapes[name] if name in shapes else optional[name]
        fits = shape is None or (len(shape) == len(entry.shape) and all(
            length in (None, given) for length, given in zip(shape, entry.shape, strict=True)))
        if not fits or entry.dtype not in dtypes:
            raise FileError(f"{where} is damaged: {name[:80]!r} is {entry.dtype} {list(entry.shape)}; expected "
                            f"{' or '.join(dtypes)}{'' if shape is None else f' {list(shape)}'}.")
