"""Keys of a server: who may ask for which steerers, and how much.

    concurrent = 64                                      of all keys together

    [[keys]]
    name = "class"
    sha256 = "..."                                       of the key; the key itself stands nowhere
    requests_per_minute = 30
    steerers.ablation = {}                               with the ranges of the shelf
    steerers.refusal.degrees = { low = -90, high = 90 }
"""

import secrets
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lenssteer.artefacts.reading import read_bytes, read_object
from lenssteer.engines.vllm.asked import Offer, Range
from lenssteer.errors import FileError
from lenssteer.nearest import unknown

MOST_BYTES = 32 << 20
EVERYONE = 256
BYTES = 1 << 20
Limit = Annotated[int, Field(strict=True, ge=1, le=1 << 30)]


class Key(BaseModel):
    """What one key may do.

    Args:
        name: For people; stands in messages about the file.
        sha256: Of the key.
        steerers: By name the ranges that are narrower than the shelf's; None for all steerers of the shelf.
        unsteered: Whether it may ask for no steerer.
        requests_per_minute: Most in any minute; None for any number.
        concurrent: Most at the same time.
        max_tokens: Of all answers of a request together.
        max_prompt_tokens: Of one prompt.
        max_body_bytes: Of one request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    steerers: dict[str, dict[str, Range]] | None = None
    unsteered: StrictBool = True
    requests_per_minute: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = 60
    concurrent: Limit | None = 4
    max_tokens: Limit | None = 1024
    max_prompt_tokens: Limit | None = 4096
    max_body_bytes: Annotated[int, Field(strict=True, ge=1, le=MOST_BYTES)] = BYTES

    @property
    def is_limited(self) -> bool:
        """Whether it may only use what can be held to its limits."""
        return not (self.steerers is None and self.unsteered and self.max_tokens is None
                    and self.max_prompt_tokens is None)

    def offers(self, offers: Mapping[str, Offer]) -> dict[str, Offer]:
        """What it may ask for, of what a shelf offers."""
        if self.steerers is None:
            return dict(offers)
        return {name: replace(offers[name], ranges={**offers[name].ranges, **_narrowed(own, offers[name].ranges)})
                for name, own in self.steerers.items()}

    def check(self, offers: Mapping[str, Offer], default: str) -> None:
        """Refuse what the shelf does not have.

        Args:
            offers: Of the shelf.
            default: Steerer of requests that name none; "" for none.

        Raises:
            FileError: with what the key names in vain, or lacks.
        """
        for steerer, ranges in (self.steerers or {}).items():
            if steerer not in offers:
                raise FileError(f"key {self.name!r}: {unknown('steerer', steerer, sorted(offers))}")
            for one, allowed in ranges.items():
                _refuse_wider(f"key {self.name!r}, steerer {steerer!r}", one, allowed, offers[steerer].ranges)
        if default and self.steerers is not None and default not in self.steerers:
            raise FileError(f"key {self.name!r} may not use {default!r}, which requests get that name no steerer; add "
                            "it to the key's steerers, or leave --default out.")
        if not self.unsteered and not (offers if self.steerers is None else self.steerers):
            raise FileError(f"key {self.name!r} may do nothing: no steerer, and nothing unsteered.")


class Keys(BaseModel):
    """All keys of a server.

    Args:
        keys: With different names and hashes.
        concurrent: Most requests at the same time, of all keys together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = Field(min_length=1, max_length=10_000)
    concurrent: Limit = 64

    @model_validator(mode="after")
    def _apart(self) -> "Keys":
        for what in ("name", "sha256"):
            value, times = Counter(getattr(key, what) for key in self.keys).most_common(1)[0]
            if times > 1:
                raise PydanticCustomError("apart", "{times} keys have the {what} {value}; give each its own",
                                          {"times": times, "what": what, "value": value})
        return self

    @classmethod
    def plain(cls, keys: Iterable[str]) -> "Keys":
        """Keys that may do all that the server does."""
        digests = sorted({hashed(key.encode()) for key in keys})
        return cls(keys=tuple(unlimited(f"key-{i}", digest) for i, digest in enumerate(digests)), concurrent=EVERYONE)


def unlimited(name: str, digest: str) -> Key:
    """A key without limits of its own."""
    return Key(name=name, sha256=digest, requests_per_minute=None, concurrent=None, max_tokens=None,
               max_prompt_tokens=None, max_body_bytes=MOST_BYTES)


ANYONE = unlimited("anyone", "0" * 64)
"""Who needs no key."""


def read_keys(path: Path | str) -> Keys:
    """Keys from a TOML or JSON file.

    Raises:
        FileError: when it cannot be read, or is wrong; with the place.
    """
    path = Path(path)
    try:
        return Keys.model_validate(_toml(path) if path.suffix == ".toml" else read_object(path)[0])
    except (OSError, ValidationError) as error:
        raise FileError(f"{path} cannot be read as keys: {error}") from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(path, MOST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not TOML: {error}") from error


def hashed(key: bytes) -> str:
    """SHA-256 of a key, as a file of keys has it."""
    return sha256(key).hexdigest()


def new_key() -> str:
    """A key that nobody guesses: 256 random bits."""
    return f"ls-{secrets.token_urlsafe(32)}"


def _narrowed(own: Mapping[str, Range], shelf: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges of a key; the shelf's default stays where it lies inside."""
    found = {}
    for name, one in own.items():
        default = shelf[name].default if one.default is None else one.default
        inside = default is not None and one.low <= default <= one.high
        found[name] = one.model_copy(update={"default": default if inside else None})
    return found


def _refuse_wider(whose: str, name: str, wanted: Range, shelf: Mapping[str, Range]) -> None:
    if name not in shelf:
        raise FileError(f"{whose}: {unknown('parameter', name, sorted(shelf))}")
    if wanted.low < shelf[name].low or wanted.high > shelf[name].high:
        raise FileError(f"{whose}: {name} {wanted} is more than the shelf allows, {shelf[name]}; narrow it.")
