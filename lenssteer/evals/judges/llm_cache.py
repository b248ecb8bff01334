"""Replies of a judging model on disk: one JSON object a line, appended as each arrives.

A line holds the hash of what was asked and the reply, never the prompt or the answer that was judged; a judge that
explains itself may quote from them. Processes share the file under a lock; a line torn by a kill is skipped.
"""

import hashlib
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_lines
from lenssteer.artefacts.schema.record import described
from lenssteer.artefacts.schema.replies import Reply as KeptReply
from lenssteer.artefacts.writing import append_line
from lenssteer.errors import FileError

REPLIES, LOCK = "replies.jsonl", "replies.lock"
PATIENCE = 60
"""Seconds to wait for another process that is writing."""


@dataclass(frozen=True)
class Reply:
    """What the server returned.

    Args:
        text: As it came, thinking included.
        finish: Why it ended: "stop", "length", or what else the server says.
        prompt_tokens: As the server counts; None where it does not.
        completion_tokens: The same of the reply.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def reply_key(version: str, model: str, url: str, messages: Sequence[Mapping[str, str]],
              parameters: Mapping[str, Any]) -> str:
    """SHA-256 of everything a reply depends on."""
    asked = [version, model, url, [dict(message) for message in messages], dict(parameters)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def default_folder() -> Path:
    """`$LENSSTEER_CACHE/judge`, or the platform's folder for caches."""
    if os.environ.get("LENSSTEER_CACHE"):
        return Path(os.environ["LENSSTEER_CACHE"]) / "judge"
    home = Path.home()
    usual = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    folder = os.environ.get("XDG_CACHE_HOME") or usual.get(sys.platform, home / ".cache")
    return Path(folder) / "lenssteer" / "judge"


class ReplyCache:
    """Replies by key, in memory and, with a folder, on disk.

    Args:
        folder: Made if absent, for the user alone; None keeps replies in memory only.

    Raises:
        FileError: when the folder cannot be used.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self._known: dict[str, Reply] = {}
        self._read = 0
        self._guard = threading.Lock()
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self.folder / REPLIES, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
            except OSError as error:
                raise FileError(f"cannot use the cache {self.folder}: {error}; name another with cache=FOLDER or "
                                "LENSSTEER_CACHE, or turn it off with cache=off.") from error
            self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Reply | None:
        """The reply under a key."""
        return self._known.get(key)

    def refresh(self) -> None:
        """Read what has been appended since, by any process.

        Raises:
            FileError: when the file cannot be read.
        """
        if self.folder is None:
            return
        with self._guard:
            try:
                for _, line in read_lines(self.folder / REPLIES, start=self._read):
                    self._read += len(line) + 1
                    found = _parsed(line)
                    if found is not None:
                        self._known.setdefault(*found)
            except OSError as error:
                raise FileError(f"cannot read {self.folder / REPLIES}: {error}") from error

    def put(self, key: str, reply: Reply, **about: str) -> None:
        """Keep a reply; it is on disk when this returns.

        Args:
            key: See `reply_key`.
            reply: As it came.
            about: Anything else worth a field, such as the model's name.

        Raises:
            FileError: when it cannot be written.
        """
        from filelock import FileLock, Timeout

        with self._guard:
            self._known.setdefault(key, reply)
            if self.folder is None:
                return
            line = json.dumps({"key": key, **asdict(reply), **about}).encode()
            try:
                with FileLock(self.folder / LOCK, timeout=PATIENCE):
                    append_line(self.folder / REPLIES, line, mode=0o600)
            except (OSError, Timeout) as error:
                raise FileError(f"cannot write {self.folder / REPLIES}: {error}; replies so far are kept.") from error


def _parsed(line: bytes) -> tuple[str, Reply] | None:
    """The key and reply of a line; None for one that was torn."""
    try:
        parse(line, "a reply")
        found = described(KeptReply, line, "a reply")
    except FileError:
        return None
    return found.key, Reply(found.text, found.finish, found.prompt_tokens, found.completion_tokens)
