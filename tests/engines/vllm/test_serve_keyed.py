"""The real server with a file of keys: what only vLLM can show of its limits, its answers to bad requests, and its log."""

import json
import re
import socket
from hashlib import sha256

import httpx
import pytest

pytest.importorskip("vllm", reason="the server needs vLLM; CONTRIBUTING.md has the command that runs these tests")

from tests.engines.vllm.server import Server, chat, make_shelf

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WORD = "zanzibarquux"
KEYS = {"own": {"max_prompt_tokens": 12, "max_tokens": 32, "requests_per_minute": None, "max_body_bytes": 5000},
        "narrow": {"steerers": {"refusal": {"degrees": {"low": -90, "high": 90}}}, "unsteered": False},
        "slow": {"requests_per_minute": 2}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "keys.json").write_text(json.dumps({"keys": [
        {"name": name, "sha256": sha256(name.encode()).hexdigest(), **limits} for name, limits in KEYS.items()]}))
    one = Server(make_shelf(folder / "shelf"), folder / "log", "--keys", str(folder / "keys.json"), "--", "--max-num-seqs", "16")
    yield one.ready()
    one.close()


def ask(server, body, path=CHAT, key="own"):
    return server.post(path, body, authorization=f"Bearer {key}")


@pytest.mark.parametrize("steerer", ["none", "ablation"])
def test_prompts_are_held_to_the_key_by_vllms_own_tokens(server, steerer):
    xargs = None if steerer == "none" else {"steerer": steerer}
    for prompt in ([5] * 12, [[5] * 12, [5]], "tell me"):
        assert ask(server, {"model": "demo", "prompt": prompt, "max_tokens": 1, "vllm_xargs": xargs}, COMPLETIONS).status_code == 200
    for prompt in ([5] * 13, [[5], [5] * 13], "tell me " * 6):
        answer = ask(server, {"model": "demo", "prompt": prompt, "max_tokens": 1, "n": 2, "vllm_xargs": xargs}, COMPLETIONS)
        assert answer.status_code == 400
        assert "this key may send 12" in answer.json()["error"]["message"]
    assert ask(server, chat("tell me", steerer)).status_code == 200
    assert "this key may send 12" in ask(server, chat("tell me how to paint a red cake .", steerer)).text
    assert "this key may send 12" in ask(server, chat("tell me how to paint a red cake .", steerer, stream=True)).text


def test_answers_are_no_longer_than_the_key_allows(server):
    body = chat("tell me", "ablation", ignore_eos=True)
    del body["max_tokens"]
    assert ask(server, body).json()["usage"]["completion_tokens"] == 32
    assert ask(server, {**body, "n": 3, "temperature": 1}).json()["usage"]["completion_tokens"] == 30
    assert ask(server, {**body, "max_tokens": 33}).status_code == 400


def test_a_key_is_held_to_its_steerers_rate_and_bodies(server):
    assert ask(server, chat("tell me", "refusal", set={"degrees": 90}), key="narrow").json()["lenssteer"]["steerer"] == "refusal"
    for body in (chat("tell me", "refusal", set={"degrees": 91}), chat("tell me", "ablation"), chat("tell me")):
        assert ask(server, body, key="narrow").status_code == 400
    answers = [ask(server, chat("tell me", max_tokens=1), key="slow") for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert 50 <= int(answers[-1].headers["retry-after"]) <= 60
    assert ask(server, chat("a" * 5000)).status_code == 413
    assert ask(server, {"model": "demo", "input": "a"}, "/v1/responses").status_code == 405
    assert ask(server, chat("tell me"), key="nobody").status_code == 401


def bad_requests():
    """Requests that something in vLLM or lenssteer refuses, each with a word that must not be logged."""
    body = chat(WORD, "ablation")
    yield from ({**body, **change} for change in (
        {"temperature": -1}, {"temperature": WORD}, {"messages": WORD}, {"messages": [{"role": WORD, "content": WORD}]},
        {"messages": []}, {"messages": [{"role": "user", "content": [{"type": WORD}]}]}, {"stop": [1, WORD]}, {"n": 0},
        {"model": WORD}, {"vllm_xargs": {"steerer": WORD}}, {"vllm_xargs": {"steerer": "ablation", WORD: 1}}, {"logit_bias": {WORD: 1}},
        {"chat_template": f"{{{{ {WORD} }}}}"}, {"chat_template_kwargs": {WORD: 1}}, {"structured_outputs": {"regex": f"({WORD}"}},
        {"tools": [{"type": "function", "function": {"name": WORD}}], "tool_choice": "required"}, {"max_tokens": -1},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"file:///etc/{WORD}"}}]}]},
        {"messages": [{"role": "user", "content": f"{WORD} " * 12}]}, {"response_format": {"type": WORD}}))


def test_bad_requests_tell_no_trace_and_leave_no_prompt_in_the_log(server):
    for body in bad_requests():
        answer = ask(server, body)
        assert answer.status_code < 500, (body, answer.text)
        assert "Traceback" not in answer.text
        assert not re.search(r'site-packages|File "|\.py\b', answer.text), answer.text
    log = server.log.read_text()
    assert WORD not in log
    assert not any(f"Bearer {key}" in log for key in KEYS)
    assert ask(server, chat("tell me")).status_code == 200


def test_nothing_is_fetched_for_a_request(server):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.5)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a.png"
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "tell me"}]
        assert ask(server, {**chat(""), "messages": [{"role": "user", "content": parts}]}).status_code == 400
        with pytest.raises(TimeoutError):
            listening.accept()


def test_headers_name_no_version_and_open_no_door_to_pages(server):
    answers = [ask(server, chat("tell me")), ask(server, chat("tell me"), key="nobody"), httpx.get(f"{server.url}/health"),
               httpx.post(server.url + CHAT, json=chat("tell me"), headers={"authorization": "Bearer own", "origin": "http://evil.example"}),
               httpx.options(server.url + CHAT, headers={"origin": "http://evil.example", "access-control-request-method": "POST"})]
    for answer in answers:
        assert "access-control-allow-origin" not in answer.headers
        for name, value in answer.headers.items():
            assert name in ("date", "content-length") or not re.search(r"\d+\.\d+|vllm", value), (name, value)
    for path in ("/version", "/metrics", "/openapi.json", "/v1/models", "/load", "/docs"):
        assert httpx.get(server.url + path).status_code == 401
