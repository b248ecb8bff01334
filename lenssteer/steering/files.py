"""Artefacts: a folder with a readable JSON and the tensors beside it; no code in either.

    FOLDER/KIND.json                  what it is; names the tensors by file and SHA-256
    FOLDER/tensors-HASH.safetensors   named after its content

The JSON is written last and at once. Until then the folder holds the old artefact, whole; from then on the new one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_object
from lenssteer.artefacts.schema.published import ARTEFACTS
from lenssteer.artefacts.schema.record import Artefact, Tensors, described
from lenssteer.artefacts.tensors import FLOATS, read_tensors, write_tensors
from lenssteer.artefacts.writing import write_text
from lenssteer.errors import FileError, LenssteerError, MismatchError
from lenssteer.nearest import did_you_mean

FORMAT = 3
READABLE = (1, 2, 3)
"""Format 2 added gates, schedules and shared changes, which a reader of format 1 would leave out without a word; format
3 names the tensors file and its hash."""
OLD_TENSORS = "tensors.safetensors"
STEM = "tensors"
NOTHING = Tensors(file=f"{STEM}-{'0' * 16}.safetensors", sha256="0" * 64)


def write_artefact(folder: Path | str, kind: str, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write `kind`.json and its tensors; an older artefact of that kind there is replaced.

    Raises:
        FileError: when the folder cannot be written, or the artefact holds what JSON does not.
    """
    folder = Path(folder)
    path = folder / (kind + ".json")
    described(ARTEFACTS[kind], _text(kind, meta, NOTHING, path).encode(), f"what is to be written to {path}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _named(path)
        written = write_tensors(folder, STEM, tensors)
        write_text(path, _text(kind, meta, written, path))
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    if before not in (None, written.file) and not any(_named(other) == before for other in folder.glob("*.json")):
        with suppress(OSError):
            (folder / str(before)).unlink()
    return folder


def _text(kind: str, meta: Mapping[str, Any], tensors: Tensors, path: Path) -> str:
    try:
        return json.dumps({"kind": kind, "format": FORMAT, **meta, "tensors": tensors.model_dump()}, indent=2,
                          ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise FileError(f"cannot write {path}: {error}. What is kept of its origin must be JSON: finite numbers, "
                        "texts, lists and objects.") from error


def _named(path: Path) -> str | None:
    """The tensors file that a description names; None where there is none that can be read."""
    try:
        found = read_object(path)[0].get("tensors")
        return Tensors.model_validate(found).file
    except (LenssteerError, OSError, ValueError):
        return None


def read_artefact(folder: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_artefact` wrote, in this version or an earlier one.

    Raises:
        FileError: when a file is absent, damaged or not of one piece with the other.
        MismatchError: when the format version is another.
    """
    folder = Path(folder)
    while True:
        meta, text, told = _description(folder, kind)
        name = told.tensors.file if told.tensors else OLD_TENSORS
        try:
            tensors = read_tensors(folder / name, told.shapes(), told.optional(), folder=folder,
                                   sha256=told.tensors.sha256 if told.tensors else "", dtypes=(*FLOATS, "I64"))
        except FileNotFoundError as error:
            if _description(folder, kind)[1] != text:
                continue
            raise FileError(f"{folder} is not a saved {kind}: {name} is missing.") from error
        except OSError as error:
            raise FileError(f"{folder} is damaged: {error}") from error
        return meta, tensors


def _description(folder: Path, kind: str) -> tuple[dict[str, Any], bytes, Artefact]:
    path = folder / (kind + ".json")
    try:
        meta, text = read_object(path, folder=folder, constants=True)
    except FileNotFoundError as error:
        raise FileError(f"{folder} is not a saved {kind}: {kind}.json is missing." + elsewhere(folder, kind)) from error
    except OSError as error:
        raise FileError(f"{folder} is damaged: {error}") from error
    if meta.get("kind") != kind:
        raise FileError(f"{path} does not describe a {kind}.")
    if meta.get("format") not in READABLE or isinstance(meta["format"], bool):
        raise MismatchError(f"{folder} has format version {str(meta.get('format'))[:20]}, this lenssteer reads "
                            f"{', '.join(map(str, READABLE))}; use the version that wrote it, or calibrate again.")
    if meta["format"] >= FORMAT:
        parse(text, path)
    return meta, text, described(ARTEFACTS[kind], text, path)


def elsewhere(folder: Path, *kinds: str) -> str:
    """Where the artefact may be instead, as a question after a space: inside, as in a run's folder, or beside.

    Args:
        folder: That holds none.
        *kinds: Of artefact that would do.
    """
    with suppress(OSError, ValueError):
        for kind in kinds:
            if (folder / kind / f"{kind}.json").is_file():
                return f" Did you mean {str(folder / kind)!r}?"
        beside = [one.name for one in folder.parent.iterdir()] if folder.parent.is_dir() and not folder.exists() else []
        return did_you_mean(folder.name, beside)
    return ""


@contextmanager
def reading(folder: Path | str) -> Iterator[None]:
    """Turn what a malformed description causes into a FileError.

    Raises:
        FileError: in place of whatever came.
    """
    try:
        yield
    except LenssteerError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError, RuntimeError) as error:
        raise FileError(f"{folder} is damaged: {type(error).__name__} {str(error)[:300]}") from error
