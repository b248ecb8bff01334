"""Every limit of a server with keys, over real HTTP: the layer on a socket, before a server that notes what reaches it."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest
import torch

pytest.importorskip("uvicorn", reason="needs a server of ASGI apps; it comes with vLLM and gradio")

from lenssteer import edits
from lenssteer.engines.vllm import http, http_body, http_door, settings
from lenssteer.engines.vllm.http import SteeringMiddleware
from lenssteer.models import load_model
from lenssteer.site import Site
from lenssteer.steering import Steerer
from tests.engines.vllm.standin import Behind, listening

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODY = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
STEERED = {**BODY, "vllm_xargs": {"steerer": "brief"}}


class Client:
    """Asks a server with one key, unless another is given."""

    def __init__(self, url, key):
        self.key = key
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=20, verify=False)

    def ask(self, path=CHAT, body=BODY, method="POST", key=None, **headers):
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        own = self.key if key is None else key
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {own}"} if own else {}), **headers}
        headers = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()]
        return self.http.request(method, path, content=content, headers=headers)

    def at_once(self, behind, count, *keys):
        """The statuses of so many requests under way at the same time, and the answers that refuse."""
        keys = keys or (self.key,)
        behind.going.clear()
        with ThreadPoolExecutor(count) as pool:
            asked = [pool.submit(self.ask, key=keys[i % len(keys)]) for i in range(count)]
            until = time.monotonic() + 20
            while len(behind.bodies) + sum(one.done() for one in asked) < count and time.monotonic() < until:
                time.sleep(0.005)
            behind.going.set()
            answers = [one.result() for one in asked]
        behind.bodies.clear()
        return sorted(one.status_code for one in answers), [one for one in answers if one.status_code != 200]


@pytest.fixture(scope="module")
def tokenizer():
    return load_model("demo", backend="hf", check=False).tokenizer


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shelf")
    steerer = Steerer({Site(2, "resid_post"): edits.add(torch.ones(128, dtype=torch.float64), 1.0)})
    for name in ("brief", "other"):
        steerer.save(folder / name)
    return folder


@pytest.fixture
def serve(shelf, tokenizer, tmp_path, monkeypatch):
    """Starts servers; keys are called "first" and "second", with the same limits."""
    monkeypatch.setenv(settings.STEERERS, str(shelf))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    running = []

    def start(concurrent=64, keyed=True, **limits):
        if keyed:
            keys = [{"name": name, "sha256": sha256(name.encode()).hexdigest(), **limits} for name in ("first", "second")]
            (tmp_path / "keys.json").write_text(json.dumps({"keys": keys, "concurrent": concurrent}))
            monkeypatch.setenv(http.KEYS, str(tmp_path / "keys.json"))
        behind = Behind(tokenizer)
        running.append(listening(behind.under(SteeringMiddleware)))
        return behind, Client(running[-1].__enter__(), "first" if keyed else "")

    yield start
    for one in running:
        one.__exit__(None, None, None)


def refused(answer, status, said):
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], said in error["message"]) == (status, True), error
    assert "Traceback" not in answer.text
    return answer


def test_without_one_of_the_keys_nothing_comes_in(serve):
    behind, client = serve()
    stranger = Client(client.url, "")
    for wrong in ("third", "First", "firs", "", sha256(b"first").hexdigest()):
        for path, method in ((CHAT, "POST"), ("/lenssteer/steerers", "GET"), ("/v1/models", "GET"), ("/metrics", "GET"),
                             ("/version", "GET"), ("/openapi.json", "GET"), ("/docs", "GET")):
            answer = stranger.ask(path, method=method, key=wrong)
            assert refused(answer, 401, "API key").headers["www-authenticate"] == "Bearer"
    refused(client.ask(authorization="Basic first"), 401, "API key")
    refused(client.ask(authorization="Bearer \xe9".encode("latin-1")), 401, "API key")
    assert behind.bodies == []
    assert client.ask().status_code == client.ask(key="second").status_code == 200
    assert stranger.ask("/health", method="GET", body=None).status_code == 200
    assert "brief" not in stranger.ask("/lenssteer/steerers", method="OPTIONS", body=None).text


def test_a_rate_is_kept_by_key_with_the_time_to_wait(serve, monkeypatch):
    monkeypatch.setattr(http_door, "MINUTE", 1.5)
    behind, client = serve(requests_per_minute=3)
    assert [client.ask().status_code for _ in range(3)] == [200] * 3
    wait = int(refused(client.ask(), 429, "3 requests a minute").headers["retry-after"])
    assert 1 <= wait <= 2
    assert client.ask(key="second").status_code == 200
    time.sleep(wait)
    assert client.ask().status_code == 200
    assert len(behind.bodies) == 5


def test_requests_at_a_time_are_counted_by_key(serve):
    behind, client = serve()
    statuses, wrong = client.at_once(behind, 6)
    assert statuses == [200] * 4 + [429] * 2
    assert all(refused(one, 429, "under way").headers["retry-after"] == "1" for one in wrong)
    assert client.ask().status_code == 200


def test_requests_at_a_time_are_counted_for_the_server(serve):
    behind, client = serve(concurrent=3)
    statuses, wrong = client.at_once(behind, 6, "first", "second")
    assert statuses == [200] * 3 + [503] * 3
    assert all(refused(one, 503, "3 requests at a time").headers["retry-after"] == "1" for one in wrong)
    assert client.ask().status_code == 200


def test_without_keys_the_server_has_a_most_of_its_own(serve, monkeypatch):
    monkeypatch.setattr(http_door, "EVERYONE", 2)
    behind, client = serve(keyed=False)
    assert client.at_once(behind, 5)[0] == [200, 200, 503, 503, 503]


def test_places_of_clients_that_leave_are_free_again(serve):
    behind, client = serve(concurrent=2)
    stream = b"".join(b"data: {}\n\n" for _ in range(200))
    behind.answer = lambda _: ("text/event-stream", [stream] * 200)
    for _ in range(6):
        with client.http.stream("POST", CHAT, json=BODY, headers={"authorization": "Bearer first"}) as answer:
            next(answer.iter_bytes())
    behind.answer = lambda _: 1 / 0
    for _ in range(6):
        assert client.ask().status_code == 500
    behind.answer = lambda _: ("application/json", [b"{}"])
    until = time.monotonic() + 5
    while client.ask().status_code != 200:
        assert time.monotonic() < until


@pytest.mark.parametrize("said", [True, False])
def test_a_body_has_a_most_whether_it_tells_its_length_or_not(serve, said):
    behind, client = serve(max_body_bytes=1000)
    large = json.dumps({**BODY, "user": "x" * 1000}).encode()
    pieces = large if said else (large[i : i + 100] for i in range(0, len(large), 100))
    answer = client.http.post(CHAT, content=pieces, headers={"authorization": "Bearer first"})
    refused(answer, 413, "1000 bytes")
    assert behind.bodies == []
    assert client.ask().status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(serve, monkeypatch):
    monkeypatch.setattr(http_body, "SECONDS", 0.3)
    behind, client = serve(concurrent=1)
    host, _, port = client.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer first\r\ncontent-length: 90\r\n\r\n{{".encode())
        refused(client.ask(key="second"), 503, "1 requests at a time")
        slow.settimeout(10)
        told = slow.recv(10_000).decode()
    assert told.startswith("HTTP/1.1 408 ")
    assert behind.bodies == []
    assert client.ask().status_code == 200


def test_prompt_tokens_are_counted_where_the_engine_has_them(serve):
    """The layer hands the limit on; `sharing.refusal` holds the engine's own token ids to it."""
    from types import SimpleNamespace

    from lenssteer.engines.vllm.sharing import refusal

    behind, client = serve(max_prompt_tokens=7)
    scheduler = SimpleNamespace(max_num_batched_tokens=64, long_prefill_token_threshold=0)
    for body in (BODY, STEERED):
        assert client.ask(body=body).status_code == 200
        sent = behind.request["vllm_xargs"]
        assert refusal(sent, 7, scheduler) is None
        assert "8 tokens; this key may send 7" in refusal(sent, 8, scheduler)
    refused(client.ask(body={**BODY, "vllm_xargs": {"lenssteer_prompt_limit": 100}}), 400, "set by the server")


def test_output_tokens_are_held_to_the_key(serve):
    behind, client = serve(max_tokens=10)
    for change in ({"max_tokens": 11}, {"max_completion_tokens": 11}, {"n": 2, "max_tokens": 6}, {"n": 11}, {"max_tokens": "9"}):
        assert client.ask(body={**BODY, **change}).status_code == 400
    refused(client.ask(COMPLETIONS, {"prompt": ["a", "b", "c"], "max_tokens": 4}), 400, "3 at most")
    refused(client.ask(body={**BODY, "use_beam_search": True}), 400, "beam search")
    assert behind.bodies == []
    for body, path, given in ((BODY, CHAT, 10), ({**BODY, "n": 3}, CHAT, 3), ({"prompt": "a"}, COMPLETIONS, 10),
                              ({"prompt": [1, 2], "n": 5}, COMPLETIONS, 2), ({**STEERED, "max_tokens": 4}, CHAT, 4)):
        assert client.ask(path, body).status_code == 200
        assert behind.request["max_tokens"] == given


def test_a_key_has_its_own_steerers_and_ranges(serve):
    behind, client = serve(steerers={"brief": {"strength": {"low": 0.2, "high": 0.5}}})
    listed = client.ask("/lenssteer/steerers", method="GET").json()
    assert [one["name"] for one in listed["steerers"]] == ["brief"]
    assert listed["steerers"][0]["parameters"] == {"strength": {"low": 0.2, "high": 0.5, "default": None}}
    assert listed["limits"]["requests_per_minute"] == 60
    for xargs, said in (({"steerer": "other"}, "unknown steerer"), ({"steerer": "brief", "strength": 0.6}, "from 0.2 to 0.5"),
                        ({"steerer": "brief"}, "needs strength")):
        refused(client.ask(body={**BODY, "vllm_xargs": xargs}), 400, said)
    assert behind.bodies == []
    assert client.ask(body={**BODY, "vllm_xargs": {"steerer": "brief", "strength": 0.5}}).status_code == 200
    assert client.ask().status_code == 200


def test_a_key_may_be_kept_from_unsteered_answers(serve):
    behind, client = serve(steerers={"brief": {}}, unsteered=False)
    for xargs in (None, {}, {"steerer": "none"}):
        refused(client.ask(body={**BODY, "vllm_xargs": xargs}), 400, "may not ask for unsteered")
    assert client.ask(body=STEERED).json()["lenssteer"]["steerer"] == "brief"
    assert len(behind.bodies) == 1


def test_a_key_with_limits_reaches_only_what_is_held_to_them(serve):
    behind, client = serve()
    for path in ("/v1/responses", "/v1/messages", "/inference/v1/generate", "/v1/chat/completions/batch", "/invocations",
                 "/scale_elastic_ep", "/v1/load_lora_adapter", "/pause", "/v1/completions/", "//v1/completions"):
        assert refused(client.ask(path, {"input": "a"}), 405, "may post to").headers["allow"] == "GET, HEAD, OPTIONS"
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "QUERY"):
        assert refused(client.ask(method=method), 405, "may post to").headers["allow"] == "POST"
        assert refused(client.ask("/v1/responses/1", method=method), 405, "may post to").headers["allow"] != "POST"
    assert behind.bodies == []
    assert client.ask("/tokenize", {"prompt": "a"}).status_code == 200
    host, _, port = client.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as one:
        one.sendall(f"GET /v1/realtime HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n".encode())
        assert b" 101 " not in one.recv(1000)


def test_no_tensor_is_taken_from_a_request(serve):
    behind, client = serve(keyed=False)
    refused(client.ask(COMPLETIONS, {"model": "demo", "prompt_embeds": "gASVAAAA"}), 400, "not tensors")
    assert behind.bodies == []


def test_a_model_of_another_name_does_not_reach_the_log(serve):
    behind, client = serve()
    behind.state.args.served_model_name = ["demo"]
    for name in ("other", "demo\nforged line", 5, ["demo"], ""):
        refused(client.ask(body={**BODY, "model": name}), 404, "it has demo")
    assert behind.bodies == []
    for body in (BODY, {"messages": BODY["messages"]}, {**BODY, "model": None}):
        assert client.ask(body=body).status_code == 200
    behind.state.args.lora_modules = ["an adapter"]
    assert client.ask(body={**BODY, "model": "an adapter"}).status_code == 200


def test_pages_of_other_sites_do_not_reach_a_server_without_keys(serve):
    behind, client = serve(keyed=False)
    for headers in ({"host": "evil.example"}, {"host": "evil.example:8000"}, {"origin": "https://evil.example"}, {"origin": "null"},
                    {"host": "127.0.0.1.evil.example"}, {"host": "[::1", "origin": "http://["}):
        refused(client.ask(**headers), 403, "not this machine")
    assert behind.bodies == []
    for headers in ({"host": "localhost:8000"}, {"host": "[::1]:8000"}, {"origin": "http://localhost:3000"}):
        assert client.ask(**headers).status_code == 200


def test_headers_name_no_versions(serve):
    _, client = serve()
    for answer in (client.ask(), client.ask(key="wrong"), client.ask("/v1/responses")):
        assert not any(mark in " ".join([*answer.headers.keys(), *answer.headers.values()]).lower()
                       for mark in ("vllm", "lenssteer", "python", "uvicorn/", "x-powered-by"))


def test_a_server_that_breaks_tells_no_trace(serve):
    behind, client = serve()
    behind.answer = lambda _: {}["a secret of the server"]
    answer = client.ask(body=STEERED)
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text


def test_limits_of_different_keys_do_not_meet(serve):
    behind, client = serve(concurrent=64)
    statuses, _ = client.at_once(behind, 8, "first", "second")
    assert statuses == [200] * 8
