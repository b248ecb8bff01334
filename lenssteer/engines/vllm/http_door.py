"""Who may come in, and how many at once."""

import math
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from lenssteer.engines.own_address import foreign
from lenssteer.engines.vllm.http_keys import ANYONE, EVERYONE, Key, Keys, hashed
from lenssteer.engines.vllm.http_refused import RefusedError

MINUTE = 60.0
Headers = Mapping[bytes, bytes]


@dataclass
class Held:
    """What a key uses at the moment.

    Args:
        inside: Requests under way.
        times: When its requests of the last minute came in.
    """

    inside: int = 0
    times: deque[float] = field(default_factory=deque)


class Door:
    """Lets requests in that have a key, within the key's rate and number, and the server's.

    Args:
        keys: None where no key is asked for; then requests for pages of other sites are refused.
    """

    def __init__(self, keys: Keys | None) -> None:
        self.keys = keys
        self.most = EVERYONE if keys is None else keys.concurrent
        self.inside = 0
        self.held: dict[str, Held] = {}

    @contextmanager
    def let_in(self, headers: Headers) -> Iterator[Key]:
        """A request, while it is answered.

        Raises:
            RefusedError: 401 or 403 when it may not come in, 429 when its key has too many, 503 when the server has.
        """
        key = self.key_of(headers)
        held = self.held.setdefault(key.name, Held())
        self._refuse_many(key, held)
        held.inside += 1
        self.inside += 1
        try:
            yield key
        finally:
            held.inside -= 1
            self.inside -= 1

    def key_of(self, headers: Headers) -> Key:
        """Whose key a request has; every key is compared, in the same time.

        Raises:
            RefusedError: when it has none, or needs none and was made for a page of another site.
        """
        if self.keys is None:
            stranger = foreign(headers)
            if stranger:
                raise RefusedError(403, f"{stranger} is not this machine; without a key the server answers only this "
                                   "machine. Start it with a key.")
            return ANYONE
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = hashed(token)
        found = [key for key in self.keys.keys if secrets.compare_digest(given, key.sha256)]
        if not found or scheme.lower() != b"bearer":
            raise RefusedError(401, "the API key is missing or wrong; send it as `Authorization: Bearer KEY`.",
                               www_authenticate="Bearer")
        return found[0]

    def _refuse_many(self, key: Key, held: Held) -> None:
        """Count a request, unless it is one too many."""
        now = time.monotonic()
        while held.times and held.times[0] <= now - MINUTE:
            held.times.popleft()
        if key.requests_per_minute is not None and len(held.times) >= key.requests_per_minute:
            raise RefusedError(429, f"this key may send {key.requests_per_minute} requests a minute; wait.",
                               retry_after=str(max(1, math.ceil(held.times[0] + MINUTE - now))))
        if key.concurrent is not None and held.inside >= key.concurrent:
            raise RefusedError(429, f"this key may have {key.concurrent} requests under way; wait for one of them.",
                               retry_after="1")
        if self.inside >= self.most:
            raise RefusedError(503, f"the server answers {self.most} requests at a time; try again.", retry_after="1")
        if key.requests_per_minute is not None:
            held.times.append(now)
