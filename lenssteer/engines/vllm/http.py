"""The part of the server that knows steerers and keys: an ASGI layer around vLLM's, named to it with `--middleware`.

    GET  /lenssteer/steerers          names, parameters and ranges, and the key's limits
    POST /v1/completions              checked before it reaches the engine; the answer carries its receipts
    POST /v1/chat/completions         the same
"""

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lenssteer.engines.vllm.asked import Asked
from lenssteer.engines.vllm.http_answer import Answer, Send
from lenssteer.engines.vllm.http_body import Again, Receive, sized, whole
from lenssteer.engines.vllm.http_door import Door
from lenssteer.engines.vllm.http_keys import ANYONE, MOST_BYTES, Key, Keys, read_keys
from lenssteer.engines.vllm.http_receipts import take_receipts
from lenssteer.engines.vllm.http_refused import RefusedError, reply
from lenssteer.engines.vllm.http_request import STEERED, Incoming, incoming, read_json, refuse_steering
from lenssteer.engines.vllm.settings import shelf
from lenssteer.errors import LenssteerError

App = Callable[[Any, Receive, Send], Awaitable[None]]
DEFAULT, KEYS = "LENSSTEER_DEFAULT", "LENSSTEER_KEYS"
"""Environment variables: the steerer of requests that name none, and the file of keys."""
LISTING = "/lenssteer/steerers"
READING = ("GET", "HEAD", "OPTIONS")
OPEN = ("/health", "/ping")
COUNTED = (*STEERED, "/tokenize", "/detokenize")
"""What a key with limits may post to."""


class SteeringMiddleware:
    """Reads, checks and answers requests about steering; passes on all others.

    Args:
        app: vLLM's server.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.shelf = shelf()
        self.default = os.environ.get(DEFAULT, "")
        self._door: Door | None = None
        self._tokenizer: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            try:
                with self._let_in(scope) as key:
                    await self._answer(key, scope, receive, send)
            except RefusedError as refused:
                await refused.tell(send)

    def _let_in(self, scope: Any) -> AbstractContextManager[Key]:
        if scope["method"] == "OPTIONS" or (scope["method"] in READING and self._path(scope) in OPEN):
            return nullcontext(ANYONE)
        if self._door is None:
            self._door = door_of(scope["app"].state.args)
        return self._door.let_in(dict(scope["headers"]))

    async def _answer(self, key: Key, scope: Any, receive: Receive, send: Send) -> None:
        path = self._path(scope)
        if scope["method"] not in READING:
            await self._post(path, key, scope, receive, send)
        elif path == LISTING and scope["method"] != "OPTIONS":
            await reply(send, 200, self.listing(key))
        else:
            await self.app(scope, receive, send)

    @staticmethod
    def _path(scope: Any) -> str:
        return scope["path"].removeprefix(scope.get("root_path", ""))

    async def _post(self, path: str, key: Key, scope: Any, receive: Receive, send: Send) -> None:
        if key.is_limited and (path not in COUNTED or scope["method"] != "POST"):
            raise RefusedError(405, f"a key with limits may post to {', '.join(COUNTED)}, and read elsewhere.",
                               allow="POST" if path in COUNTED else "GET, HEAD, OPTIONS")
        body = await whole(receive, scope, min(MOST_BYTES, key.max_body_bytes))
        try:
            request = await self._checked(path, key, scope, body)
        except RefusedError:
            raise
        except LenssteerError as error:
            raise RefusedError(400, str(error)) from error
        again, changed = Again(receive, request.body), sized(scope, len(request.body))
        if request.asked is None:
            await self.app(changed, again, send)
        else:
            await self._steered(request.asked, changed, again, send)

    async def _checked(self, path: str, key: Key, scope: Any, body: bytes) -> Incoming:
        if path in STEERED:
            tokenizer = self._own_tokenizer(scope)
            args = scope["app"].state.args
            own, plain = (getattr(args, name, None) is None for name in ("chat_template", "lora_modules"))
            models = (getattr(args, "served_model_name", None) or ()) if plain else ()
            return await asyncio.to_thread(incoming, path, body, self.shelf, self.default, tokenizer,
                                           own_template=own, key=key, models=models)
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

    def listing(self, key: Key) -> dict[str, Any]:
        """What requests with a key may ask for."""
        steerers = [{"name": name, "where": offer.where,
                     "parameters": {one: allowed.model_dump() for one, allowed in sorted(offer.ranges.items())}}
                    for name, offer in sorted(key.offers(self.shelf.offers).items())]
        limits = {"limits": key.model_dump(exclude={"name", "sha256", "steerers"})} if key.is_limited else {}
        return {"default": self.default or None, "steerers": steerers, **limits}


def door_of(args: Any) -> Door:
    """The door of a server that was started with these arguments of vLLM's."""
    path = os.environ.get(KEYS)
    keys = [key for key in args.api_key or [os.environ.get("VLLM_API_KEY")] if key]
    return Door(read_keys(path) if path else Keys.plain(keys) if keys else None)
