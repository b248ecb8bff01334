"""Tensors in files named after their content: a description that names one cannot be read with another's tensors."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lenssteer.artefacts import limits
from lenssteer.artefacts.header import Shapes, read_header, refuse_others
from lenssteer.artefacts.reading import opened, sha256_of_file
from lenssteer.artefacts.schema.record import Tensors
from lenssteer.artefacts.writing import beside, settle
from lenssteer.errors import FileError

FLOATS = ("F64", "F32", "F16", "BF16")


def write_tensors(folder: Path, stem: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Write `stem`-HASH.safetensors; what a description says of it.

    Raises:
        FileError: when a value is not finite.
        OSError, SafetensorError: when it cannot be written; the caller says what that means.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _refuse_broken(plain, folder)
    with beside(folder / f"{stem}.safetensors") as part:
        part.touch()
        mode = part.stat().st_mode
        save_file(plain, part)
        part.chmod(mode)
        with part.open("rb") as file:
            digest = sha256_of_file(file)
        name = f"{stem}-{digest[:16]}.safetensors"
        settle(part, folder / name)
    return Tensors(file=name, sha256=digest)


def read_tensors(path: Path, shapes: Shapes | None = None, optional: Shapes | None = None, *, sha256: str = "",
                 folder: Path | None = None, dtypes: tuple[str, ...] = FLOATS) -> dict[str, Tensor]:
    """The tensors of a file.

    Names, shapes, dtypes, sizes and the hash are checked before a tensor is made, and every value after.

    Args:
        path: A safetensors file.
        shapes: The tensors there must be; None for any.
        optional: Those there may be besides; no others.
        sha256: Of the file; "" where it was not recorded.
        folder: Where it must lie; see `opened`.
        dtypes: Which may come.

    Raises:
        FileError: when it is damaged, or not what was expected.
        OSError: when it is absent or cannot be opened.
    """
    with opened(path, limits.TENSORS, folder=folder) as file:
        size = file.seek(0, 2)
        file.seek(0)
        found = read_header(file, size, path)
        if shapes is not None:
            refuse_others(found, shapes, optional or {}, dtypes, path)
        if sha256 and sha256_of_file(file) != sha256:
            raise FileError(f"{path} is damaged: its content has another hash than its description recorded. Copy both "
                            "again, or make them again.")
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} is damaged: {error}") from error
    _refuse_broken(tensors, path)
    return tensors


def _refuse_broken(tensors: Mapping[str, Tensor], where: object) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FileError(f"{where}: {name!r} holds values that are not finite; check what it was computed from, or "
                            "copy it again.")
