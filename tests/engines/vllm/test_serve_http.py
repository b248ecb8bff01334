"""The ASGI layer around a server that only notes what reaches it: no vLLM is needed here."""

import asyncio
import copy
import json

import httpx
import pytest
import torch

from lenssteer import edits
from lenssteer.engines.vllm import http, settings
from lenssteer.engines.vllm.http import SteeringMiddleware
from lenssteer.engines.vllm.serve import Serve, environment, is_this_machine, require_open_key
from lenssteer.errors import LenssteerError, ParameterError
from lenssteer.models import load_model
from lenssteer.site import Site
from lenssteer.steering import Steerer
from tests.engines.vllm.standin import Behind


@pytest.fixture(scope="module")
def tokenizer():
    return load_model("demo", backend="hf", check=False).tokenizer


@pytest.fixture
def folder(tmp_path):
    vector = torch.ones(128, dtype=torch.float64)
    steerer = Steerer({Site(2, "resid_post"): edits.add(vector, 1.0)})
    steerer.save(tmp_path / "brief")
    steerer.at("after_instruction").save(tmp_path / "later")
    return tmp_path


@pytest.fixture
def server(folder, tokenizer, monkeypatch):
    monkeypatch.setenv(settings.STEERERS, str(folder))
    monkeypatch.delenv(settings.SITES, raising=False)
    monkeypatch.delenv("VLLM_API_KEY", raising=False)

    def make(default="", key=None):
        monkeypatch.setenv(http.DEFAULT, default)
        behind = Behind(tokenizer, key)
        app = behind.under(SteeringMiddleware)

        def ask(path, body=None, method="POST", **headers):
            async def go():
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
                    content = body if isinstance(body, bytes) else json.dumps(body).encode()
                    return await client.request(method, path, content=content, headers=headers)

            return asyncio.run(go())

        return behind, ask

    return make


def chat(text="hello", **more):
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


def test_a_steered_answer_carries_its_receipts_and_all_else_is_kept(server):
    behind, ask = server()
    answer = ask("/v1/chat/completions", chat(vllm_xargs={"steerer": "brief", "strength": 0.5}))
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("id", "choices")} == {"id": "x", "choices": [1]}
    told = answer.json()["lenssteer"]
    assert (told["steerer"], told["parameters"]) == ("brief", {"strength": 0.5})
    assert len(told["receipts"]) == 1
    assert answer.headers["x-kept"] == "1"
    sent = behind.request["vllm_xargs"]
    assert behind.taken == [sent.pop("lenssteer_ticket")]
    assert sent == {"steerer": "brief", "strength": 0.5}
    assert behind.lengths == [len(behind.bodies[0])]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_unsteered_answers_pass_untouched(server):
    behind, ask = server()
    for arguments in (None, {}, {"steerer": "none"}):
        answer = ask("/v1/chat/completions", chat(vllm_xargs=arguments))
        assert answer.content == b'{"id": "x", "choices": [1]}'
    assert behind.taken == []


def test_every_request_has_a_ticket_of_its_own(server):
    behind, ask = server()
    for _ in range(3):
        ask("/v1/completions", {"prompt": [1, 2], "vllm_xargs": {"steerer": "brief"}})
    assert len(set(behind.taken)) == 3


@pytest.mark.parametrize(("body", "said"), [
    (chat(vllm_xargs={"steerer": "breif"}), "Did you mean 'brief'?"),
    (chat(vllm_xargs={"steerer": "brief", "strength": 2}), "from 0 to 1; got 2"),
    (chat(vllm_xargs={"steerer": "brief", "strength": True}), "got True"),
    (chat(vllm_xargs={"steerer": "brief", "degrees": 1}), "takes strength"),
    (chat(vllm_xargs={"strength": 1}), "but no steerer"),
    (chat(vllm_xargs={"steerer": "brief", "lenssteer_ticket": "mine"}), "set by the server"),
    (chat(vllm_xargs=["brief"]), "must be an object"),
    (chat(vllm_xargs={"steerer": "brief"}, use_beam_search=True), "beam search"),
    (b'{"vllm_xargs": {"steerer": "brief", "strength": NaN}}', "NaN"),
    (b"[1]", "must be a JSON object"),
    (b"{", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"\xff", "not JSON"),
    (b'{"messages": [{"role": "user", "content": "\\ud800"}], "vllm_xargs": {"steerer": "later"}}', "surrogates not allowed"),
])
def test_what_is_wrong_is_a_400_in_our_words_and_never_reaches_the_engine(server, body, said):
    behind, ask = server()
    answer = ask("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == 400
    assert behind.bodies == []


def test_half_a_character_never_reaches_a_tokenizer(server):
    behind, ask = server()
    for prompt in (b'"\\ud800"', b'["a", "\\udfff"]'):
        assert ask("/v1/completions", b'{"prompt": ' + prompt + b"}").status_code == 400
    assert behind.bodies == []
    assert ask("/v1/completions", b'{"prompt": "\\ud83d\\ude00 \\u0041"}').status_code == 200


def test_too_large_a_body_is_refused(server, monkeypatch):
    monkeypatch.setattr(http, "MOST_BYTES", 100)
    behind, ask = server()
    assert ask("/v1/chat/completions", chat("x" * 100)).status_code == 413
    assert behind.bodies == []


def test_other_paths_pass_but_do_not_steer(server):
    behind, ask = server()
    assert ask("/v1/responses", b'{"input": "a"}').status_code == 200
    assert behind.bodies == [b'{"input": "a"}']
    for body in ({"vllm_xargs": {"steerer": "brief"}}, {"sampling_params": {"extra_args": {"steerer": "x"}}},
                 {"extra_args": {"lenssteer_ticket": "x"}}):
        answer = ask("/inference/v1/generate", body)
        assert answer.status_code == 400
        assert "does not steer" in answer.json()["error"]["message"]
    assert ask("/v1/audio", b"\x00\x01", **{"content-type": "multipart/form-data"}).status_code == 200
    assert ask("/health", method="GET").status_code == 200


def test_the_listing_names_parameters_and_ranges(server):
    _, ask = server(default="brief")
    assert ask("/lenssteer/steerers", method="GET").json() == {"default": "brief", "steerers": [
        {"name": "brief", "where": "all", "parameters": {"strength": {"low": 0.0, "high": 1.0, "default": 1.0}}},
        {"name": "later", "where": "after_instruction", "parameters": {"strength": {"low": 0.0, "high": 1.0, "default": 1.0}}}]}


def test_a_default_steers_requests_that_name_none(server):
    behind, ask = server(default="brief")
    assert ask("/v1/completions", {"prompt": [1]}).json()["lenssteer"]["steerer"] == "brief"
    assert ask("/v1/completions", {"prompt": [1], "vllm_xargs": {"strength": 0.5}}).json()["lenssteer"]["parameters"] == {"strength": 0.5}
    assert "lenssteer" not in ask("/v1/completions", {"prompt": [1], "vllm_xargs": {"steerer": "none"}}).json()
    assert behind.request["vllm_xargs"] == {"steerer": "none"}


def test_a_key_is_asked_for_on_every_path_that_does_something(server):
    behind, ask = server(key="secret")
    wrong = [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}, {"authorization": "Basic secret"}]
    for headers in wrong:
        for path, method in (("/v1/completions", "POST"), ("/invocations", "POST"), ("/lenssteer/steerers", "GET")):
            answer = ask(path, {"prompt": [1], "vllm_xargs": {"steerer": "x"}}, method, **headers)
            assert answer.status_code == 401
            assert "brief" not in answer.text
    assert behind.bodies == []
    for scheme in ("Bearer", "bearer"):
        assert ask("/v1/completions", {"prompt": [1]}, authorization=f"{scheme} secret").status_code == 200
    assert ask("/health", method="GET").status_code == 200


def pieces(text, size):
    return [text[i : i + size] for i in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("character", ["a", "é\u2028", "[DONE]"])
def test_a_stream_gets_one_more_event_before_its_end_however_it_is_cut(server, size, character):
    behind, ask = server()
    events = [{"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "demo",
               "choices": [{"delta": {"content": character * i}}]} for i in range(1, 4)]
    stream = b"".join(b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\n\n" for one in events)
    behind.answer = lambda _: ("text/event-stream; charset=utf-8", pieces(stream + b": ping\n\ndata: [DONE]\n\n", size))
    answer = ask("/v1/chat/completions", chat(stream=True, vllm_xargs={"steerer": "brief"}))
    told = [event.removeprefix(b"data: ") for event in answer.content.split(b"\n\n")]
    assert told[-2:] == [b"[DONE]", b""]
    own = json.loads(told[-3])
    assert {name: own[name] for name in ("id", "object", "created", "model", "choices")} == {
        "id": "c", "object": "chat.completion.chunk", "created": 5, "model": "demo", "choices": []}
    assert own["lenssteer"]["steerer"] == "brief"
    assert [json.loads(one) for one in told[:3]] == events
    assert told[3] == b": ping"
    assert len(told) == 7


def test_receipts_of_failed_and_broken_off_answers_are_taken_away(server):
    behind, ask = server()
    behind.status = 500
    answer = ask("/v1/completions", {"prompt": [1], "vllm_xargs": {"steerer": "brief"}})
    assert (answer.status_code, answer.content) == (500, b'{"id": "x", "choices": [1]}')
    assert len(behind.taken) == 1

    def fail(_body):
        raise ConnectionError("gone")

    behind.answer = fail
    with pytest.raises(ConnectionError):
        ask("/v1/completions", {"prompt": [1], "vllm_xargs": {"steerer": "brief"}})
    assert len(behind.taken) == 2


def test_prompts_have_the_token_ids_they_have_everywhere(server, tokenizer):
    behind, ask = server()
    bos = tokenizer.bos_token_id
    added = tokenizer("hello")["input_ids"][0] == bos
    plain = [token for token in tokenizer("tell me")["input_ids"] if token != bos]
    for prompt, sent in (("tell me", "tell me" if added else [bos, *plain]), (f"{tokenizer.bos_token} tell me", [bos, *plain] if added else f"{tokenizer.bos_token} tell me"),
                         (["tell me"], ["tell me"] if added else [[bos, *plain]]), ([5, 6], [5, 6]), ([[5], [6]], [[5], [6]])):
        ask("/v1/completions", {"prompt": prompt})
        assert behind.request["prompt"] == sent
    ask("/v1/completions", {"prompt": "tell me", "add_special_tokens": False})
    assert behind.request["prompt"] == "tell me"
    ask("/v1/chat/completions", chat())
    assert "add_special_tokens" not in behind.request


def test_a_chat_template_without_bos_gets_one_where_the_tokenizer_adds_one(tokenizer):
    from tokenizers.processors import TemplateProcessing

    from lenssteer.engines.vllm.http_prompt import chat_needs_bos, with_one_bos

    assert not chat_needs_bos(tokenizer)
    other = copy.deepcopy(tokenizer)
    other.chat_template = "{% for m in messages %}<user> {{ m['content'] }}{% endfor %}"
    other.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{other.bos_token} $A", special_tokens=[(other.bos_token, other.bos_token_id)])
    assert chat_needs_bos(other)
    assert with_one_bos(other, "hello") == "hello"
    assert with_one_bos(other, f"{other.bos_token} hello") == list(other("hello")["input_ids"])
    other.chat_template = "{{ bos_token }}" + other.chat_template
    assert not chat_needs_bos(other)


def test_the_end_of_the_instruction_is_found_for_chats_and_asked_for_elsewhere(server, tokenizer):
    behind, ask = server()
    text = "tell me how to paint a red cake ."
    ask("/v1/chat/completions", chat(text, vllm_xargs={"steerer": "later"}))
    end = behind.request["vllm_xargs"]["instruction_end"]
    ids = tokenizer(tokenizer.apply_chat_template(chat(text)["messages"], tokenize=False, add_generation_prompt=True),
                    add_special_tokens=False)["input_ids"]
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [token for token in ids[:end] if token != tokenizer.bos_token_id][-len(own) :] == [token for token in own if token != tokenizer.bos_token_id]
    assert ids[end:] == tokenizer(" <end> <assistant>", add_special_tokens=False)["input_ids"]
    ask("/v1/completions", {"prompt": [1, 2, 3], "vllm_xargs": {"steerer": "later", "instruction_end": 2}})
    assert behind.request["vllm_xargs"]["instruction_end"] == 2
    for path, body in (("/v1/completions", {"prompt": text}), ("/v1/chat/completions", chat(text, tools=[{"a": 1}])),
                       ("/v1/chat/completions", chat([{"type": "text", "text": text}])),
                       ("/v1/chat/completions", chat(text, add_generation_prompt=False))):
        answer = ask(path, {**body, "vllm_xargs": {"steerer": "later"}})
        assert answer.status_code == 400
        assert "instruction_end=" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True),
                                           ("0.0.0.0", False), ("", False), ("::", False), ("192.168.0.2", False), ("example.org", False)])
def test_other_machines_need_a_key(host, own):
    assert is_this_machine(host) is own
    require_open_key(host, "key")
    if not own:
        with pytest.raises(ParameterError, match="--api-key"):
            require_open_key(host, "")


def test_the_key_is_in_the_environment_and_not_among_the_arguments(folder, monkeypatch):
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    serve = Serve("demo", folder, api_key="secret", default="brief", more=("--max-num-seqs", "8"))
    assert "secret" not in serve.arguments
    assert serve.arguments[-2:] == ["--max-num-seqs", "8"]
    found = environment(serve)
    assert (found["VLLM_API_KEY"], found["VLLM_PLUGINS"], found[http.DEFAULT]) == ("secret", "other,lenssteer", "brief")


def test_a_server_is_refused_before_anything_is_loaded(folder):
    for wrong in (Serve("demo", folder, default="breif"), Serve("demo", folder / "brief"), Serve("demo", folder, "0.0.0.0")):
        with pytest.raises(LenssteerError):
            wrong.check()
