"""Arrays by name from the files other tools write: safetensors, npy, JSON and GGUF; never pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from safetensors import safe_open
from torch import Tensor

from lenssteer.artefacts import limits
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import opened, read_bytes, sha256_of_file
from lenssteer.artefacts.tensors import read_tensors
from lenssteer.errors import FileError
from lenssteer.exports.gguf import package
from lenssteer.nearest import unknown

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
REFUSED = "is a pickle, which can run code when it is read. If you trust it, convert it yourself:"
TORCH = ("save_file(torch.load(file, weights_only=True), 'vectors.safetensors') of safetensors.torch; for Selective "
         "Steering's plane.pt save_file(dict(zip(('b1', 'b2'), torch.load(file, weights_only=True)['basis'])), ...)")
NUMPY = ("save_file({f'{module}.{name}': array for module, plane in numpy.load(file, allow_pickle=True).item().items() "
         "for name, array in plane.items()}, 'planes.safetensors') of safetensors.numpy")


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a file holds.

    Args:
        named: Arrays in float64, by name; one without a name has "".
        notes: What the file says of itself.
        sha256: Of the file.
    """

    named: Mapping[str, Float64[Tensor, "*shape"]]
    notes: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""


def read_arrays(path: Path | str) -> Arrays:
    """Read a file of vectors or planes.

    Args:
        path: .safetensors, .npy, .json ({"name": [numbers], ...}) or .gguf.

    Raises:
        FileError: when it is a pickle, of another kind, damaged, empty, or holds values that are not finite.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind in PICKLES:
        raise FileError(f"{path} {REFUSED} {TORCH}.")
    if kind not in READERS:
        raise FileError(unknown("kind of file", kind or path.name, READERS))
    try:
        named, notes = READERS[kind](path)
        with opened(path, limits.TENSORS) as file:
            digest = sha256_of_file(file)
    except FileError:
        raise
    except Exception as error:  # numpy and gguf raise whatever their parsers do
        if "Object arrays" in str(error):
            raise FileError(f"{path} {REFUSED} {NUMPY}.") from error
        raise FileError(f"cannot read {path}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    if not named:
        raise FileError(f"{path} holds no arrays.")
    for name, array in named.items():
        if not torch.isfinite(array).all():
            raise FileError(f"{path}: {name or 'the array'} holds values that are not finite.")
    return Arrays(named, notes, digest)


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    named = {name: tensor.double() for name, tensor in read_tensors(path).items()}
    with safe_open(path, framework="pt") as stored:
        return named, stored.metadata() or {}


def _npy(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with opened(path, limits.TENSORS) as file:
        array = np.load(file, allow_pickle=False)
        if file.read(1):
            raise FileError(f"{path} is damaged: more follows its array. Copy it again, or make it again.")
    return {"": torch.from_numpy(array.astype(np.float64))}, {}


def _json(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    found: Any = parse(read_bytes(path, limits.PROMPTS), path)
    entries = found.items() if isinstance(found, dict) else [("", found)]
    inner = [(name, value) for outer, entry in entries
             for name, value in (entry.items() if isinstance(entry, dict) else [(outer, entry)])]
    return ({name: torch.tensor(value, dtype=torch.float64) for name, value in inner if isinstance(value, list)},
            {name: value for name, value in inner if isinstance(value, str)})


def _gguf(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with opened(path, limits.TENSORS):
        reader = _bounded(package(), path)(path)
    texts = {name: one for name, one in reader.fields.items() if one.types and one.types[0].name == "STRING"}
    for one in reader.tensors:
        if one.tensor_type.name not in ("F16", "F32", "F64"):
            raise FileError(f"{path}: {one.name} is stored as {one.tensor_type.name}; expected F16, F32 or F64.")
    return ({one.name: torch.from_numpy(np.array(one.data, dtype=np.float64)) for one in reader.tensors},
            {name: bytes(one.parts[-1]).decode("utf-8", "replace") for name, one in texts.items()})


def _bounded(gguf: Any, path: Path) -> Any:
    """gguf's reader, for control vectors only; alone it walks lists as long as a file claims, whatever the file has."""

    class Bounded(gguf.GGUFReader):
        def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
            found = super()._get(offset, dtype, count, override_order)
            if len(found) != int(count):
                raise FileError(f"{path} is damaged: it ends before the {count} values that it announces at byte "
                                f"{offset}. Copy it again, or make it again.")
            return found

        def _get_field_parts(self, orig_offs: Any, raw_type: Any) -> Any:
            if raw_type == gguf.GGUFValueType.ARRAY:
                raise FileError(f"{path} is no control vector: it holds a list, as models do. Expected direction.N, "
                                "one vector a layer.")
            return super()._get_field_parts(orig_offs, raw_type)

    return Bounded


READERS = {".safetensors": _safetensors, ".npy": _npy, ".json": _json, ".gguf": _gguf}
