"""What the page's server lets in: small bodies, and while it listens to this machine only, no pages of other sites."""

from collections.abc import Awaitable, Callable
from typing import Any

from lenssteer.engines.own_address import foreign

MOST_BYTES = 1 << 20


class Door:
    """An ASGI layer around gradio's.

    Args:
        app: Gradio's.
        local: Whether only this machine is to reach the page.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], local: bool) -> None:
        self.app = app
        self.local = local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused = self._refused(dict(scope["headers"])) if scope["type"] == "http" else None
        if refused is None:
            await self.app(scope, receive, send)
            return
        status, why = refused
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": why.encode(errors="replace"), "more_body": False})

    def _refused(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        stranger = foreign(headers) if self.local else ""
        if stranger:
            return 403, f"{stranger} is not this machine, and the page answers this machine only."
        said = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not said.isdigit() or int(said) > MOST_BYTES:
            return 413, f"send at most {MOST_BYTES} bytes, and say how many."
        return None
