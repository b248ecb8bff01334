"""Folders that one process writes at a time, and files of lines that survive its death."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lenssteer.artefacts import limits
from lenssteer.artefacts.reading import opened
from lenssteer.artefacts.writing import PART, clear_parts
from lenssteer.errors import FileError

LOCK = "lock"


def pieces_inside(folder: Path) -> Path:
    """Where the pieces of a folder's content stand until all of it is there; see `lenssteer.artefacts.unfinished`."""
    return folder / ".unfinished"


def pieces_beside(file: Path) -> Path:
    """Where the pieces of a file's content stand until all of it is there."""
    return file.with_name(f".{file.name}.unfinished")


@contextmanager
def only_process(folder: Path, doing: str) -> Iterator[None]:
    """Make a folder and be the only process that writes there; the system frees the lock when the process dies.

    Args:
        folder: Made if absent.
        doing: What another process would be doing there, such as "sweeping into".

    Raises:
        FileError: when another process is, or the folder cannot be used.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FileError(f"another process is {doing} {folder}; wait for it, or choose another folder.") from error
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    try:
        clear_parts(folder)
        yield
    finally:
        lock.release()


@contextmanager
def apart(path: Path) -> Iterator[Path]:
    """A folder beside `path` to make it in, as the only process; it is gone afterwards, with what a killed process
    left of an earlier one.

    Raises:
        FileError: when another process is making the same, or the folder cannot be used.
    """
    place = path.with_name(f".{path.name}{PART}")
    with only_process(place, f"writing {path} in"):
        try:
            for left in (one for one in place.iterdir() if one.name != LOCK):
                with suppress(OSError):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def drop_torn_line(path: Path) -> None:
    """Cut off what follows the last newline of a file: what a killed process was writing.

    Raises:
        FileError: when the file cannot be repaired.
    """
    try:
        with opened(path, 1 << 62) as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(size - limits.DESCRIPTION - 1, 0)
            file.seek(begin)
            newline = file.read(size - begin).rfind(b"\n")
        if newline < 0 < begin:
            raise FileError(f"{path} is damaged: its last line has more than {limits.DESCRIPTION} bytes. Choose "
                            "another folder.")
        if begin + newline + 1 < size:
            os.truncate(path, begin + newline + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"cannot repair {path}: {error}") from error
