"""Samples on disk: a sharded safetensors store, written as they arrive and read lazily.

    FOLDER/store.json                  sites, d_model, position, count, shards
    FOLDER/shard-00000.safetensors     "activations" [n, sites, d_model] float32, "prompt" [n] int64
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lenssteer.errors import FileError
from lenssteer.site import Site

Batch = tuple[Int[Tensor, " batch"], Float[Tensor, "sites batch d_model"]]


@dataclass(frozen=True)
class ActivationStore:
    """Activations of many prompts, one line a prompt, in the order they were captured.

    Args:
        folder: Where the shards are.
        sites: Second axis of every shard.
        count: Number of prompts.
        shards: File names.
    """

    folder: Path
    sites: tuple[Site, ...]
    count: int
    shards: tuple[str, ...]

    @classmethod
    def write(cls, folder: Path | str, sites: Iterable[Site], batches: Iterable[Batch], *,
              shard_size: int = 4096, at: str = "last") -> "ActivationStore":
        """Stream batches of `capture.activations` to disk; at most one shard is held in memory.

        Raises:
            FileError: when the folder cannot be written, or holds a store already.
        """
        folder = Path(folder)
        if (folder / "store.json").exists():
            raise FileError(f"{folder} holds a store already; choose another folder, or delete it.")
        names, count = [], 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number, (prompts, lines) in enumerate(_shards(batches, shard_size)):
                names.append(f"shard-{number:05d}.safetensors")
                save_file({"activations": lines, "prompt": prompts}, folder / (names[-1] + ".part"))
                os.replace(folder / (names[-1] + ".part"), folder / names[-1])
                count += len(prompts)
            meta = {"kind": "store", "format": 1, "sites": [str(s) for s in sites], "count": count, "at": at,
                    "shards": names}
            (folder / "store.json.part").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
            os.replace(folder / "store.json.part", folder / "store.json")
        except (OSError, SafetensorError) as error:
            raise FileError(f"cannot write {folder}: {error}") from error
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path | str) -> "ActivationStore":
        """Open a finished store.

        Raises:
            FileError: when there is none, or its description is damaged.
        """
        folder = Path(folder)
        try:
            meta = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            sites = tuple(Site.parse(name) for name in meta["sites"])
            return cls(folder, sites, int(meta["count"]), tuple(meta["shards"]))
        except FileNotFoundError as error:
            raise FileError(f"{folder} holds no finished store: store.json is missing.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{folder}/store.json is damaged: {error}") from error

    def site(self, site: Site) -> Float[Tensor, "count d_model"]:
        """All samples of one site, in the order of the prompts.

        Raises:
            FileError: when the site was not stored, or a shard is missing or damaged.
        """
        if site not in self.sites:
            raise FileError(f"{site} is not in {self.folder}; it has {', '.join(map(str, self.sites))}.")
        column = self.sites.index(site)
        prompts, lines = zip(*(self._read(name, column) for name in self.shards), strict=True)
        return torch.cat(lines)[torch.cat(prompts).argsort()]

    def _read(self, name: str, column: int) -> tuple[Tensor, Tensor]:
        try:
            with safe_open(self.folder / name, framework="pt") as shard:
                return shard.get_tensor("prompt"), shard.get_slice("activations")[:, column]
        except (OSError, SafetensorError) as error:
            raise FileError(f"{self.folder / name} cannot be read: {error}") from error


def _shards(batches: Iterable[Batch], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    prompts: list[Tensor] = []
    lines: list[Tensor] = []
    for rows, read in batches:
        prompts.append(rows)
        lines.append(read.transpose(0, 1))
        if sum(map(len, prompts)) >= size:
            yield torch.cat(prompts), torch.cat(lines).contiguous()
            prompts, lines = [], []
    if prompts:
        yield torch.cat(prompts), torch.cat(lines).contiguous()
