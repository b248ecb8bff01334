"""Artefacts: a folder with a readable JSON and the tensors beside it; no code in either."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lenssteer.edits import LowRankEdit
from lenssteer.errors import FileError, LenssteerError, MismatchError
from lenssteer.site import Site

FORMAT = 1
TENSORS = "tensors.safetensors"


def write_artefact(folder: Path | str, kind: str, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write `kind`.json and tensors.safetensors, each first beside its place and then moved there.

    Raises:
        FileError: when the folder cannot be written.
    """
    folder = Path(folder)
    text = json.dumps({"kind": kind, "format": FORMAT, **meta}, indent=2, ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, folder / (TENSORS + ".part"))
        os.replace(folder / (TENSORS + ".part"), folder / TENSORS)
        (folder / (kind + ".json.part")).write_text(text + "\n", encoding="utf-8")
        os.replace(folder / (kind + ".json.part"), folder / (kind + ".json"))
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    return folder


def read_artefact(folder: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_artefact` wrote.

    Raises:
        FileError: when a file is absent or damaged.
        MismatchError: when the format version is another.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / (kind + ".json")).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except FileNotFoundError as error:
        raise FileError(f"{folder} is not a saved {kind}: {Path(error.filename or kind).name} is missing.") from error
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise FileError(f"{folder} is damaged: {error}") from error
    if not isinstance(meta, dict) or meta.get("kind") != kind:
        raise FileError(f"{folder}/{kind}.json does not describe a {kind}.")
    if meta.get("format") != FORMAT:
        raise MismatchError(f"{folder} has format version {meta.get('format')}, this lenssteer reads {FORMAT}; "
                            "use the version that wrote it, or calibrate again.")
    return meta, tensors


def pack_edits(edits: Mapping[Site, LowRankEdit]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Edits as JSON and tensors; arrays shared by sites are stored once."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    sites: dict[str, Any] = {}
    for site in sorted(edits):
        arrays: dict[str, str] = {}
        for part, tensor in edits[site].tensors().items():
            arrays[part] = names.setdefault(id(tensor), f"{site}/{part}")
            tensors.setdefault(arrays[part], tensor.clone())
        sites[str(site)] = {"arrays": arrays, "norm": edits[site].norm, "radius": edits[site].radius}
    return sites, tensors


def unpack_edits(sites: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[Site, LowRankEdit]:
    """What `pack_edits` packed."""
    return {Site.parse(name): LowRankEdit(**{part: tensors[key] for part, key in entry["arrays"].items()},
                                          norm=entry["norm"], radius=entry["radius"])
            for name, entry in sites.items()}


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
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise FileError(f"{folder} is damaged: {type(error).__name__} {error}") from error
