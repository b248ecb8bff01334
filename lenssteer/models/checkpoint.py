"""A saved checkpoint in safetensors: read its names without its weights, write it again with some weights changed."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lenssteer.artefacts import limits
from lenssteer.artefacts.header import read_header
from lenssteer.artefacts.reading import opened, read_object
from lenssteer.artefacts.writing import flush_file, write_text
from lenssteer.errors import FileError, ModelError
from lenssteer.models.loading import DEMOS

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
UNTIED = "lm_head.weight"
FLOATING = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Checkpoint:
    """A folder in Hugging Face layout.

    Args:
        folder: Where it is.
        config: Its config, of the text model.
        shards: Names of its safetensors files.
        shapes: Shape of every tensor.
        dtypes: How every tensor is stored, such as F32 or BF16.
    """

    folder: Path
    config: Any
    shards: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    @property
    def floating(self) -> set[str]:
        """Names of the tensors that are stored as ordinary floating-point numbers."""
        return {name for name, dtype in self.dtypes.items() if dtype in FLOATING}

    @classmethod
    def open(cls, source: str | Path) -> "Checkpoint":
        """Read config, names, shapes and dtypes, but no weights.

        Raises:
            ModelError: when there is no such model, or it has no safetensors.
            FileError: when a shard is absent or damaged.
        """
        from transformers import AutoConfig

        folder = model_folder(source)
        shards = _shards(folder)
        shapes: dict[str, tuple[int, ...]] = {}
        dtypes: dict[str, str] = {}
        try:
            read_object(folder / "config.json")
            config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
            for shard in shards:
                with opened(folder / shard, limits.WEIGHTS) as stored:
                    for name, entry in read_header(stored, (folder / shard).stat().st_size, folder / shard).items():
                        shapes[name], dtypes[name] = entry.shape, entry.dtype
        except FileError:
            raise
        except Exception as error:  # transformers and the hub's library raise their own, of any base
            raise FileError(f"{folder} is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
        return cls(folder, config, shards, shapes, dtypes)

    def rewrite(self, target: Path, stored: Callable[[str, Tensor], Mapping[str, Tensor]],
                config: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write the checkpoint with every tensor passed through `stored`, one shard in memory at a time.

        Args:
            target: Folder to make.
            stored: Gives what is written in place of a tensor, by name, from its name and value.
            config: Entries of the config that change.

        Raises:
            FileError: when the target cannot be written, or the source has gone.
        """
        gone = next((name for name in self.shards if not (self.folder / name).is_file()), None)
        if gone is not None:
            raise FileError(f"{self.folder / gone} has gone since it was first read; bring the folder back, and give "
                            "the same command again.")
        try:
            target.mkdir(parents=True)
            for path in self.folder.iterdir():
                if path.is_file() and not path.name.endswith((*WEIGHTS, ".bin.index.json")):
                    shutil.copyfile(path, target / path.name)
            for shard in self.shards:
                with safe_open(self.folder / shard, framework="pt") as old, torch.no_grad():
                    tensors: dict[str, Tensor] = {}
                    for name in old.keys():  # noqa: SIM118  # not a dict
                        tensors |= stored(name, old.get_tensor(name))
                    save_file(tensors, target / shard, old.metadata())
                    flush_file(target / shard)
                    _index(target, shard, {name: t for name, t in tensors.items() if name not in self.shapes})
                    del tensors
            _configure(target, config)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise FileError(f"cannot write {target}: {error}") from error


def _configure(target: Path, entries: Mapping[str, Any]) -> None:
    """Change entries of a copied folder's config, in that of the text model too."""
    if not entries:
        return
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    for part in (config, config.get("text_config", {})):
        part.update(entries)
    write_text(target / "config.json", json.dumps(config, indent=2) + "\n")


def _index(target: Path, shard: str, new: Mapping[str, Tensor]) -> None:
    """Name new tensors in the index of a copied folder, where it has one."""
    if not new or not (target / INDEX).is_file():
        return
    index = json.loads((target / INDEX).read_text(encoding="utf-8"))
    index["weight_map"] |= dict.fromkeys(new, shard)
    size = sum(t.numel() * t.element_size() for t in new.values())
    index.get("metadata", {}).update(total_size=index.get("metadata", {}).get("total_size", 0) + size)
    write_text(target / INDEX, json.dumps(index, indent=2) + "\n")


def model_folder(source: str | Path) -> Path:
    """The folder of a model: one that comes with the package, a local one, or a hub's snapshot.

    Raises:
        ModelError: when there is none.
    """
    folder = DEMOS.get(str(source)) or Path(source)
    if (folder / "config.json").is_file():
        return folder
    if folder.is_absolute() or folder.exists() or str(source).startswith("."):
        raise ModelError(f"{source} is not a model folder: it has no config.json.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), ignore_patterns=["*.bin", "*.pt", "*.pth", "*.gguf", "*.h5"]))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot find {source!r}: {str(error).splitlines()[0]} Expected 'demo', a folder in Hugging "
                         "Face layout, or a hub id.") from error


def _shards(folder: Path) -> tuple[str, ...]:
    """Names of the weight files.

    Raises:
        ModelError: when there are no safetensors.
        FileError: when the index is damaged, or names a file elsewhere.
    """
    if not (folder / INDEX).is_file():
        if not (folder / SINGLE).is_file():
            raise ModelError(f"{folder} has no {SINGLE} and no {INDEX}; save the model as safetensors first.")
        return (SINGLE,)
    try:
        names = sorted(set(read_object(folder / INDEX)[0]["weight_map"].values()))
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{folder / INDEX} is damaged: {error}") from error
    if not names or any(not isinstance(name, str) or "\0" in name or Path(name).name != name for name in names):
        raise FileError(f"{folder / INDEX} is damaged: it names no files of this folder.")
    return tuple(names)
