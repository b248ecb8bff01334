"""Folders that one process writes at a time, and files of lines that survive its death."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lenssteer.artefacts import limits
from lenssteer.artefacts.reading import opened
from lenssteer.errors import FileError

LOCK = "lock"


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
        yield
    finally:
        lock.release()


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
