"""Answers on their way out: receipts go into the JSON body, or into one event before the end of a stream."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Fetch = Callable[[], Awaitable[dict[str, Any]]]
FIELD = "lenssteer"
DONE = b"data: [DONE]"
END = b"\n\n"


class Answer:
    """A `send` that adds what `fetch` gives to the answer it passes on.

    Args:
        send: Where the answer goes.
        fetch: The field to add; called once, after the answer's last token.
    """

    def __init__(self, send: Send, fetch: Fetch) -> None:
        self.send, self.fetch = send, fetch
        self.start: Message = {}
        self.kind = "other"
        self.held = b""
        self.last: dict[str, Any] = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body" or self.kind == "other":
            await self.send(message)
        elif self.kind == "stream":
            await self._event(message)
        else:
            await self._body(message)

    async def _begin(self, message: Message) -> None:
        kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
        if message["status"] != 200:
            self.kind = "other"
        elif kind.startswith(b"text/event-stream"):
            self.kind = "stream"
        elif kind.startswith(b"application/json"):
            self.kind, self.start = "json", message
            return
        await self.send(message)

    async def _body(self, message: Message) -> None:
        """Hold a JSON answer back until it is whole."""
        self.held += message.get("body", b"")
        if message.get("more_body", False):
            return
        answer = json.loads(self.held)
        body = json.dumps({**answer, FIELD: await self.fetch()}, ensure_ascii=False).encode()
        headers = [(name, value) for name, value in self.start["headers"] if name.lower() != b"content-length"]
        await self.send({**self.start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _event(self, message: Message) -> None:
        """Pass whole events on; one of ours comes before the last."""
        *events, self.held = (self.held + message.get("body", b"")).split(END)
        more = message.get("more_body", False)
        out = b""
        for event in events:
            if event.startswith(DONE):
                out += b"data: " + json.dumps(await self._own_event(), ensure_ascii=False).encode() + END
            elif event.startswith(b"data: {"):
                self.last = json.loads(event[len(b"data: ") :])
            out += event + END
        if not more:
            out, self.held = out + self.held, b""
        if out or not more:
            await self.send({"type": "http.response.body", "body": out, "more_body": more})

    async def _own_event(self) -> dict[str, Any]:
        """An event without choices, such as the one with the usage."""
        same = {name: self.last[name] for name in ("id", "object", "created", "model") if name in self.last}
        return {**same, "choices": [], FIELD: await self.fetch()}
