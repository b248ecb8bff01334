"""What stands for vLLM behind the ASGI layer: a server that notes what reaches it."""

import asyncio
import json
import threading
import time
import types
from contextlib import contextmanager

COUNTS = {"where": "all", "sites": {"resid_post.2": {"passes": 2, "seen": 9, "selected": 9,
                                                      "sums": [9.0, 18.0, 90.0, 9.0, 0.0, 9.0, 90.0, 180.0]}},
          "conditions": [], "error": None}


class Behind:
    """Stands for vLLM: keeps what reaches it, and answers as it is told."""

    def __init__(self, tokenizer, key=None):
        args = types.SimpleNamespace(api_key=[key] if key else None, chat_template=None)
        renderer = types.SimpleNamespace(get_tokenizer=lambda: tokenizer)
        self.state = types.SimpleNamespace(args=args, engine_client=types.SimpleNamespace(
            renderer=renderer, collective_rpc=self.collective_rpc))
        self.bodies, self.taken, self.lengths = [], [], []
        self.answer = lambda body: ("application/json", [json.dumps({"id": "x", "choices": [1]}).encode()])
        self.status = 200
        self.pause = 0.0
        self.going = threading.Event()
        self.going.set()

    async def collective_rpc(self, method, args):
        assert method == "lenssteer_receipts"
        self.taken += args[0]
        return [{ticket: [COUNTS] for ticket in args[0]}, {ticket: [] for ticket in args[0]}]

    async def __call__(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        self.lengths.append(int(dict(scope["headers"]).get(b"content-length", b"0")))
        kind, parts = self.answer(body)
        await asyncio.sleep(self.pause)
        while not self.going.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.start", "status": self.status, "headers": [
            (b"Content-Type", kind.encode()), (b"Content-Length", str(sum(map(len, parts))).encode()), (b"x-kept", b"1")]})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def request(self):
        return json.loads(self.bodies[-1])

    def under(self, layer):
        """The app with a layer around it, as vLLM builds it."""
        outer = layer(self)

        async def app(scope, receive, send):
            await outer({**scope, "app": self}, receive, send)

        return app


@contextmanager
def listening(app):
    """The address of an app on a real socket."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical", timeout_keep_alive=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
