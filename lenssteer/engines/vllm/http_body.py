"""Bodies of requests on their way in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from lenssteer.engines.vllm.http_answer import Message
from lenssteer.engines.vllm.http_refused import RefusedError

Receive = Callable[[], Awaitable[Message]]
SECONDS = 30.0
"""How long a body may take to come."""


class Again:
    """Gives a body that was read already, then what comes after it."""

    def __init__(self, receive: Receive, body: bytes) -> None:
        self.receive, self.body = receive, body
        self.given = False

    async def __call__(self) -> Message:
        if self.given:
            return await self.receive()
        self.given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


async def whole(receive: Receive, scope: Any, most: int) -> bytes:
    """The body of a request.

    Args:
        receive: Where it comes from.
        scope: Of the request.
        most: Bytes it may have.

    Raises:
        RefusedError: 413 when it says that it is larger, or is; 408 when it does not come; 400 when the client is gone.
    """
    said = dict(scope["headers"]).get(b"content-length", b"0")
    if not said.isdigit() or int(said) > most:
        raise RefusedError(413, f"the body has more than {most} bytes; send less in one request.")
    try:
        async with asyncio.timeout(SECONDS):
            return await _read(receive, most)
    except TimeoutError as error:
        raise RefusedError(408, f"the body did not come within {SECONDS:g} seconds; send it at once.") from error


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the client left before its body was here.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise RefusedError(413, f"the body has more than {most} bytes; send less in one request.")
        if not message.get("more_body", False):
            return b"".join(parts)


def sized(scope: Any, length: int) -> Any:
    """The scope of the same request with a body of another length."""
    sizes = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in sizes]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}
