"""Files that are written at once or not at all, and lines that are on disk when the call returns.

A new file is written beside its place, flushed to the disk, moved there, and the folder flushed too: whoever reads, at
whatever moment and after whatever crash, finds the old content whole or the new one.
"""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lenssteer.errors import FileError

PART = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name for a new file, which takes the place of `path` when the block ends without an exception.

    Raises:
        OSError: when it cannot be written; the caller says what that means.
    """
    with beside(path) as part:
        yield part
        settle(part, path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name in the folder of `path` that no other process has; a file left there is removed."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}")
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink()


def clear_parts(folder: Path, begins: str = ".") -> None:
    """Remove what killed processes left of files they were writing; for who is the only process that writes there.

    Args:
        folder: Where the files would have been.
        begins: Of their names, the dot in front included.
    """
    for part in folder.glob(f"{glob.escape(begins)}*{PART}"):
        with suppress(OSError):
            part.unlink()


def settle(part: Path, path: Path) -> None:
    """Flush a file to the disk and move it to its place."""
    flush_file(part)
    os.replace(part, path)
    flush_folder(path.parent)


def flush_file(path: Path) -> None:
    """Flush what was written to a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names of a folder to the disk, where the system can."""
    with suppress(PermissionError, NotImplementedError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str, *, follow: bool = False, make_folder: bool = False) -> None:
    """Write a text in UTF-8, at once or not at all.

    Args:
        path: The file; an older one is replaced.
        text: Its content.
        follow: Whether the path is a user's choice: a link is followed, and a pipe or device is written to. Otherwise
            the new file takes the place of whatever stands there.
        make_folder: Whether its folder is made if absent.

    Raises:
        FileError: when it cannot be written.
    """
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if follow and path.exists() and not path.is_file():
            path.write_bytes(text.encode())
            return
        with replacing(path.resolve() if follow else path) as part:
            part.write_bytes(text.encode())
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write {path}: {error}") from error


def append_line(path: Path, line: bytes, *, mode: int = 0o666) -> None:
    """Append a line, which is on disk when this returns.

    A line that a killed process tore is ended first, so that it spoils no other; where the disk is full, what was
    written of this one is taken back.

    Raises:
        OSError: when it cannot be written.
    """
    new = not path.exists()
    with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode), "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(path, end)
            raise
    if new:
        flush_folder(path.parent)
