"""The part of the server that knows steerers: an ASGI layer around vLLM's own, named to it with `--middleware`.

    GET  /lenssteer/steerers          names, parameters and ranges
    POST /v1/completions              checked before it reaches the engine; the answer carries its receipts
    POST /v1/chat/completions         the same
"""

import asyncio
import copy
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from lenssteer.engines.vllm.asked import Asked
from lenssteer.engines.vllm.http_answer import Answer, Message, Send
from lenssteer.engines.vllm.http_receipts import take_receipts
from lenssteer.engines.vllm.http_request import STEERED, Incoming, incoming, read_json, refuse_steering
from lenssteer.engines.vllm.settings import shelf
from lenssteer.errors import LenssteerError

Receive = Callable[[], Awaitable[Message]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
DEFAULT = "LENSSTEER_DEFAULT"
"""Environment variable: the steerer of requests that name none."""
MOST_BYTES = 32 << 20
LISTING = "/lenssteer/steerers"
READING = ("GET", "HEAD", "OPTIONS")


class SteeringMiddleware:
    """Reads, checks and answers requests about steering; passes on all others.

    Args:
        app: vLLM's server.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.shelf = shelf()
        self.default = os.environ.get(DEFAULT, "")
        self._tokenizer: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] in READING and self._path(scope) != LISTING):
            await self.app(scope, receive, send)
        elif not allowed(scope):
            await _refuse(send, 401, "the API key is missing or wrong; send it as `Authorization: Bearer KEY`.")
        elif scope["method"] in READING:
            await _reply(send, 200, self.listing())
        else:
            await self._post(self._path(scope), scope, receive, send)

    @staticmethod
    def _path(scope: Any) -> str:
        return scope["path"].removeprefix(scope.get("root_path", ""))

    async def _post(self, path: str, scope: Any, receive: Receive, send: Send) -> None:
        body = await _whole(receive)
        if body is None:
            await _refuse(send, 413, f"the body has more than {MOST_BYTES} bytes; send less in one request.")
            return
        try:
            request = await self._checked(path, scope, body)
        except LenssteerError as error:
            await _refuse(send, 400, str(error))
            return
        again, sized = _Again(receive, request.body), _sized(scope, len(request.body))
        if request.asked is None:
            await self.app(sized, again, send)
        else:
            await self._steered(request.asked, sized, again, send)

    async def _checked(self, path: str, scope: Any, body: bytes) -> Incoming:
        if path in STEERED:
            tokenizer = self._own_tokenizer(scope)
            own = getattr(scope["app"].state.args, "chat_template", None) is None
            return await asyncio.to_thread(incoming, path, body, self.shelf, self.default, tokenizer, own_template=own)
        if b"json" in dict(scope["headers"]).get(b"content-type", b"json") and body:
            refuse_steering(read_json(body), path)
        return Incoming(body, None)

    async def _steered(self, asked: Asked, scope: Any, receive: Receive, send: Send) -> None:
        engine = scope["app"].state.engine_client
        fetched = False

        async def fetch() -> dict[str, Any]:
            nonlocal fetched
            fetched = True
            return {"steerer": asked.name, "parameters": dict(asked.parameters),
                    "receipts": await take_receipts(engine, asked.ticket)}

        try:
            await self.app(scope, receive, Answer(send, fetch))
        finally:
            if not fetched:
                await asyncio.shield(take_receipts(engine, asked.ticket))

    def _own_tokenizer(self, scope: Any) -> Any:
        """A copy of the tokenizer, which vLLM's own threads do not use."""
        if self._tokenizer is None:
            self._tokenizer = copy.deepcopy(scope["app"].state.engine_client.renderer.get_tokenizer())
        return self._tokenizer

    def listing(self) -> dict[str, Any]:
        """What requests may ask for."""
        return {"default": self.default or None, "steerers": [
            {"name": name, "where": offer.where,
             "parameters": {one: allowed.model_dump() for one, allowed in sorted(offer.ranges.items())}}
            for name, offer in sorted(self.shelf.offers.items())]}


class _Again:
    """Gives a body that was read already, then what comes after it."""

    def __init__(self, receive: Receive, body: bytes) -> None:
        self.receive, self.body = receive, body
        self.given = False

    async def __call__(self) -> Message:
        if self.given:
            return await self.receive()
        self.given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


async def _whole(receive: Receive) -> bytes | None:
    """The body of a request, as far as it came; None where it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def allowed(scope: Any) -> bool:
    """Whether a request carries the server's API key, where it has one; on every path, not only vLLM's guarded ones."""
    keys = [key for key in scope["app"].state.args.api_key or [os.environ.get("VLLM_API_KEY")] if key]
    given = dict(scope["headers"]).get(b"authorization", b"")
    scheme, _, token = given.partition(b" ")
    matches = [secrets.compare_digest(token, key.encode()) for key in keys]
    return not keys or (scheme.lower() == b"bearer" and any(matches))


def _sized(scope: Any, length: int) -> Any:
    """The scope of the same request with a body of another length."""
    sizes = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in sizes]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


async def _reply(send: Send, status: int, value: Any) -> None:
    body = json.dumps(value, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _refuse(send: Send, status: int, message: str) -> None:
    """An error in OpenAI's layout."""
    kind = {400: "BadRequestError", 401: "AuthenticationError", 413: "BadRequestError"}[status]
    await _reply(send, status, {"error": {"message": message, "type": kind, "param": None, "code": status}})
