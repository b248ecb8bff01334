"""Open a file that anybody may have written: a regular one, of a bearable size, inside the folder it belongs to."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.artefacts.parsing import parse
from lenssteer.errors import FileError, LenssteerError

CHUNK = 1 << 20
HOW_NOT_TO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def opened(path: Path, limit: int, *, folder: Path | None = None,
           error: type[LenssteerError] = FileError) -> Iterator[BufferedIOBase]:
    """A file for reading; never waits, as on a pipe.

    Args:
        path: The file.
        limit: Most bytes it may have.
        folder: Where it must lie; a link that leads out is refused. None where links are followed.
        error: What is raised in place of a FileError.

    Raises:
        FileError: when it is no regular file, is larger, or lies elsewhere.
        OSError: when it is absent or cannot be opened; the caller knows what that means.
    """
    try:
        if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
            raise error(f"{path} leads out of {folder}; expected a file inside it. Copy the file itself there.")
        handle = os.open(path, os.O_RDONLY | HOW_NOT_TO_WAIT)
    except (ValueError, RuntimeError) as reason:
        raise error(f"{str(path)!r} is no name of a file: {reason}.") from reason
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        os.close(handle)
        raise error(f"{path} has {found.st_size} bytes; expected at most {limit}. Is it the file you meant?"
                    if stat.S_ISREG(found.st_mode) else
                    f"{path} is no regular file; expected one, not a folder, pipe or device.")
    with os.fdopen(handle, "rb") as file:
        yield file


def read_bytes(path: Path, limit: int = limits.DESCRIPTION, *, folder: Path | None = None,
               error: type[LenssteerError] = FileError) -> bytes:
    """The content of a file; see `opened` for arguments and errors."""
    with opened(path, limit, folder=folder, error=error) as file:
        return file.read(limit)


def read_lines(path: Path, limit: int = limits.DESCRIPTION, *, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file with their numbers, from 1; what follows the last newline is torn, and passed over.

    One line is in memory at a time.

    Args:
        path: The file, of any size.
        limit: Most bytes of a line.
        start: Byte to begin at.

    Raises:
        FileError: when a line is longer, or the file no regular one.
        OSError: as `opened`.
    """
    with opened(path, 1 << 62) as file:
        file.seek(start)
        number = 1
        while line := file.readline(limit + 1):
            if not line.endswith(b"\n"):
                if len(line) > limit:
                    raise FileError(f"{path}, line {number} has more than {limit} bytes; expected shorter ones. Is it "
                                    "the file you meant?")
                return
            yield number, line[:-1]
            number += 1


def read_object(path: Path, *, folder: Path | None = None, constants: bool = False) -> tuple[dict[str, Any], bytes]:
    """A JSON object and its text.

    Raises:
        FileError: when it cannot be read, or holds something else.
        OSError: as `opened`.
    """
    text = read_bytes(path, folder=folder)
    found = parse(text, path, constants=constants)
    if not isinstance(found, dict):
        raise FileError(f"{path} does not describe anything: it holds a JSON {type(found).__name__}, not an object.")
    return found, text


def sha256_of_file(file: BufferedIOBase) -> str:
    """SHA-256 of an open file, read in pieces from its beginning."""
    digest = sha256()
    file.seek(0)
    while piece := file.read(CHUNK):
        digest.update(piece)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; see `opened` for errors."""
    with opened(path, limits.TENSORS) as file:
        return sha256_of_file(file)
