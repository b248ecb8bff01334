"""Samples on disk: a sharded safetensors store, written as they arrive and read lazily.

    FOLDER/store.json                       sites, position, count, shards and their hashes
    FOLDER/shard-00000-HASH.safetensors     "activations" [n, sites, d_model], "prompt" [n] int64

store.json comes last: a folder without it holds no store.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lenssteer.artefacts import limits
from lenssteer.artefacts.header import read_header, refuse_others
from lenssteer.artefacts.reading import opened, read_object, sha256_of_file
from lenssteer.artefacts.schema.record import described
from lenssteer.artefacts.schema.store import Store
from lenssteer.artefacts.tensors import FLOATS, write_tensors
from lenssteer.artefacts.writing import write_text
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
        sha256: Of the shards; none in stores of format 1. A shard is checked before it is read for the first time.
    """

    folder: Path
    sites: tuple[Site, ...]
    count: int
    shards: tuple[str, ...]
    sha256: tuple[str, ...] = ()
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def write(cls, folder: Path | str, sites: Iterable[Site], batches: Iterable[Batch], *,
              shard_size: int = 4096, at: str = "last") -> "ActivationStore":
        """Stream batches of `capture.activations` to disk; at most one shard is held in memory.

        Raises:
            FileError: when the folder cannot be written or holds a store already, or an activation is not finite.
        """
        folder = Path(folder)
        if (folder / "store.json").exists():
            raise FileError(f"{folder} holds a store already; choose another folder, or delete it.")
        written, count = [], 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number, (prompts, lines) in enumerate(_shards(batches, shard_size)):
                written.append(write_tensors(folder, f"shard-{number:05d}", {"activations": lines, "prompt": prompts}))
                count += len(prompts)
            meta = {"kind": "store", "format": 2, "sites": [str(s) for s in sites], "count": count, "at": at,
                    "shards": [one.file for one in written], "sha256": [one.sha256 for one in written]}
            write_text(folder / "store.json", json.dumps(meta, indent=2) + "\n")
        except (OSError, SafetensorError) as error:
            raise FileError(f"cannot write {folder}: {error}") from error
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path | str) -> "ActivationStore":
        """Open a finished store.

        Raises:
            FileError: when there is none, its description is damaged, or it is of a later format.
        """
        folder = Path(folder)
        try:
            _, text = read_object(folder / "store.json", folder=folder)
        except FileNotFoundError as error:
            raise FileError(f"{folder} holds no finished store: store.json is missing.") from error
        except OSError as error:
            raise FileError(f"{folder}/store.json is damaged: {error}") from error
        told = described(Store, text, folder / "store.json")
        return cls(folder, tuple(Site.parse(name) for name in told.sites), told.count, tuple(told.shards),
                   tuple(told.sha256))

    def site(self, site: Site) -> Float[Tensor, "count d_model"]:
        """All samples of one site, in the order of the prompts.

        Raises:
            FileError: when the site was not stored, or a shard is missing or damaged.
        """
        if site not in self.sites:
            raise FileError(f"{site} is not in {self.folder}; it has {', '.join(map(str, self.sites))}.")
        column = self.sites.index(site)
        parts = [self._read(number, column) for number in range(len(self.shards))]
        count, widths = sum(len(prompts) for prompts, _ in parts), {lines.shape[-1] for _, lines in parts}
        if count != self.count or len(widths) != 1:
            raise FileError(f"{self.folder} is damaged: store.json says {self.count} prompts, its shards hold {count}, "
                            f"of d_model {sorted(widths)}. Copy it again, or make it again.")
        return torch.cat([lines for _, lines in parts])[torch.cat([prompts for prompts, _ in parts]).argsort()]

    def _read(self, number: int, column: int) -> tuple[Tensor, Tensor]:
        path = self.folder / self.shards[number]
        try:
            if path.name not in self._checked:
                self._check(path, self.sha256[number] if self.sha256 else "")
            with safe_open(path, framework="pt") as shard:
                prompts, lines = shard.get_tensor("prompt"), shard.get_slice("activations")[:, column]
        except (OSError, SafetensorError) as error:
            raise FileError(f"{path} cannot be read: {error}") from error
        if not torch.isfinite(lines).all():
            raise FileError(f"{path} holds activations that are not finite; capture them again.")
        return prompts, lines

    def _check(self, path: Path, sha256: str) -> None:
        with opened(path, limits.TENSORS, folder=self.folder) as file:
            size = file.seek(0, 2)
            file.seek(0)
            found = read_header(file, size, path)
            refuse_others(found, {"prompt": (None,), "activations": (None, len(self.sites), None)}, {},
                          (*FLOATS, "I64"), path)
            kinds = found["prompt"].dtype == "I64", found["activations"].dtype != "I64"
            if not all(kinds) or found["prompt"].shape[0] != found["activations"].shape[0]:
                raise FileError(f"{path} is damaged: expected whole numbers of prompts, and an activation of each.")
            if sha256 and sha256_of_file(file) != sha256:
                raise FileError(f"{path} is damaged: its content has another hash than store.json recorded. Copy it "
                                "again, or make it again.")
        self._checked.add(path.name)


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
