"""Requests that are not answered, told in OpenAI's layout."""

import json
from collections.abc import Mapping
from typing import Any

from lenssteer.engines.vllm.http_answer import Send
from lenssteer.errors import LenssteerError

KINDS = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
         405: "MethodNotAllowedError", 408: "TimeoutError", 413: "BadRequestError", 429: "RateLimitError",
         503: "ServiceUnavailableError"}


class RefusedError(LenssteerError):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        message: For the client.
        **headers: Of the answer, with _ for -.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers

    async def tell(self, send: Send) -> None:
        """Answer with it."""
        body = {"error": {"message": str(self), "type": KINDS[self.status], "param": None, "code": self.status}}
        await reply(send, self.status, body, self.headers)


async def reply(send: Send, status: int, value: Any, more: Mapping[str, str] | None = None) -> None:
    """Answer with JSON."""
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    given = {"content-type": "application/json", "content-length": str(len(body)), **(more or {})}
    headers = [(name.replace("_", "-").encode(), text.encode()) for name, text in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
