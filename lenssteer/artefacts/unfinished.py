"""What is finished of a result that is not: pieces that the same command takes up again.

    FOLDER/lock              held by the process at work
    FOLDER/finished.jsonl    a line a piece, with the hash of all that it depends on
    FOLDER/NAME-HASH.safetensors

The folder goes when the block that uses it ends without an exception, so the result is written inside the block.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from lenssteer.artefacts.lines import drop_torn_line, only_process
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_lines
from lenssteer.artefacts.schema.record import Tensors, described
from lenssteer.artefacts.schema.unfinished import Piece
from lenssteer.artefacts.tensors import FLOATS, read_tensors, write_tensors
from lenssteer.artefacts.writing import append_line, clear_parts
from lenssteer.errors import FileError

FINISHED = "finished.jsonl"
EVERY = 2.0
"""Seconds between two writes of what grows with every batch, at least."""
AGAIN = "Remove the folder, and give the same command again."
SHARE = 40
"""So many times as long as a write took passes before the next."""


class Unfinished:
    """The pieces of a result, in memory and on disk; made by `unfinished`.

    Args:
        folder: Of the pieces.
        about: What all of them depend on and their makers do not know, such as the dtype of the model.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self._about = dict(about)
        self._pieces: dict[str, list[Piece]] = defaultdict(list)
        self._written, self._took = monotonic(), 0.0
        for key, piece in _read(folder / FINISHED):
            self._pieces[key].append(piece)

    def key(self, **parts: Any) -> str:
        """Hash of what a piece depends on; whatever can be JSON, or has a text that tells it."""
        text = json.dumps([self._about, parts], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def found(self, key: str) -> list[dict[str, Any]]:
        """What was kept under a key, in that order."""
        return [dict(piece.found) for piece in self._pieces[key]]

    def keep(self, key: str, found: Mapping[str, Any]) -> None:
        """Keep a piece; it is on disk when this returns.

        Raises:
            FileError: when it cannot be written, or is not JSON.
        """
        self._append(key, found=dict(found))

    def tensors(self, key: str, names: Sequence[str]) -> list[dict[str, Tensor]]:
        """The tensors that were kept under a key, in that order.

        Args:
            key: See `key`.
            names: Some that there must be.

        Raises:
            FileError: when a file is missing or damaged.
        """
        found = [self._load(piece.tensors) for piece in self._pieces[key] if piece.tensors]
        if any(name not in one for one in found for name in names):
            raise FileError(f"{self.folder} is damaged: tensors are missing. {AGAIN}")
        return found

    def keep_tensors(self, key: str, tensors: Mapping[str, Tensor], *, alone: bool = False) -> None:
        """Keep tensors; they are on disk when this returns.

        Args:
            key: See `key`.
            tensors: By name.
            alone: Whether they take the place of what was kept under the key.

        Raises:
            FileError: when they cannot be written.
        """
        began = monotonic()
        try:
            written = write_tensors(self.folder, "piece", tensors)
        except (OSError, SafetensorError) as error:
            raise self._full(error) from error
        before = self._pieces.pop(key, []) if alone else []
        self._append(key, alone=alone, tensors=written.model_dump())
        named = {piece.tensors.file for pieces in self._pieces.values() for piece in pieces if piece.tensors}
        for file in {piece.tensors.file for piece in before if piece.tensors} - named:
            with suppress(OSError):
                (self.folder / file).unlink()
        self._written, self._took = monotonic(), monotonic() - began

    @property
    def due(self) -> bool:
        """Whether writing again now is worth the time."""
        return monotonic() - self._written >= max(EVERY, SHARE * self._took)

    def _append(self, key: str, **parts: Any) -> None:
        try:
            line = json.dumps({"key": key, **parts}, allow_nan=False).encode()
            piece = described(Piece, line, self.folder / FINISHED)
            append_line(self.folder / FINISHED, line)
        except (OSError, ValueError, TypeError) as error:
            raise self._full(error) from error
        self._pieces[key].append(piece)

    def _full(self, error: Exception) -> FileError:
        return FileError(f"cannot write {self.folder}: {error}; what is finished is kept, so give the same command "
                         "again.")

    def _load(self, named: Tensors) -> dict[str, Tensor]:
        try:
            return read_tensors(self.folder / named.file, sha256=named.sha256, folder=self.folder,
                                dtypes=(*FLOATS, "I64"))
        except OSError as error:
            raise FileError(f"{self.folder} is damaged: {error}. {AGAIN}") from error


@contextmanager
def unfinished(folder: Path, doing: str, about: Mapping[str, Any]) -> Iterator[Unfinished]:
    """Take up the pieces of a result, as the only process; they go at the end of the block, unless it raises.

    Args:
        folder: Made if absent.
        doing: What another process would be doing there, such as "calibrating into".
        about: See `Unfinished`.

    Raises:
        FileError: when another process is at it, or the folder cannot be used or is damaged.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with _without_a_trace(made, folder / FINISHED), only_process(folder, doing):
        clear_parts(folder.parent, folder.name.removesuffix("unfinished"))
        drop_torn_line(folder / FINISHED)
        pieces = Unfinished(folder, about)
        yield pieces
        with suppress(OSError):
            (folder / FINISHED).unlink(missing_ok=True)  # first, as it names the others
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _without_a_trace(made: Sequence[Path], finished: Path) -> Iterator[None]:
    """Remove folders that were made, deepest first, when an exception comes before anything was finished."""
    try:
        yield
    except BaseException:
        if made and not finished.exists():
            shutil.rmtree(made[0], ignore_errors=True)
            with suppress(OSError):
                for one in made[1:]:
                    one.rmdir()
        raise


def _read(path: Path) -> Iterator[tuple[str, Piece]]:
    """The pieces that count: of those that stand alone under their key, the last."""
    found: list[Piece] = []
    try:
        for number, line in read_lines(path):
            where = f"{path}, line {number}"
            parse(line, where)
            piece = described(Piece, line, where)
            found = [one for one in found if not (piece.alone and one.key == piece.key)] + [piece]
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"{path} is damaged: {error}. {AGAIN}") from error
    yield from ((piece.key, piece) for piece in found)
