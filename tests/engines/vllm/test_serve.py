"""The real server: its answers are those of lenssteer's own loop, for many at once, streamed or not."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytest.importorskip("vllm", reason="the server needs vLLM; CONTRIBUTING.md has the command that runs these tests")

from lenssteer import edits
from lenssteer.engines.vllm.serve import Serve, parsed, refuse_undone
from lenssteer.engines.vllm.shelf import Shelf
from lenssteer.errors import FileError, ModelError, ParameterError
from lenssteer.models import Decoding, generate, load_model
from lenssteer.models.demo.world import requests as demo_requests
from lenssteer.site import Site
from lenssteer.steering import Steerer
from tests.engines.vllm.server import SETTINGS, Server, chat, events, make_shelf
from tests.engines.vllm.soak import answer_of, requests, soak

KEY = "a key of this test"
AUTHORISED = {"authorization": f"Bearer {KEY}"}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    import torch

    folder = make_shelf(tmp_path_factory.mktemp("served"))
    vector = torch.ones(128, dtype=torch.float64)
    Steerer({Site(3, "resid_post"): edits.add(vector, 1e38)}).save(folder / "huge")
    (folder / "huge" / "serve.json").write_text('{"ranges": {"strength": {"low": 0, "high": 1e30, "default": 1}}}')
    return folder


@pytest.fixture(scope="session")
def server(shelf, tmp_path_factory):
    one = Server(shelf, tmp_path_factory.mktemp("log") / "log", "--api-key", KEY, "--default", "none", "--",
                 "--max-num-seqs", "32", "--max-num-batched-tokens", "192", "--block-size", "32")
    yield one.ready()
    one.close()


@pytest.fixture(scope="session")
def model():
    return load_model("demo", backend="hf", check=False)


def ask(server, body, path=CHAT):
    answer = server.post(path, body, **AUTHORISED)
    assert answer.status_code == 200, answer.text
    return answer


def test_many_at_once_get_the_answers_of_our_own_loop(server, shelf, model):
    texts = [prompt.text for kind in ("harmful", "harmless") for prompt in demo_requests("test", kind)[:4]]
    decoding, stock, expected = Decoding(max_new_tokens=24), Shelf.open(shelf), {}
    for name, choices in SETTINGS.items():
        for number, values in enumerate(choices):
            asked = stock.read({"steerer": name, **values})
            if asked is None:
                expected[name, number] = generate(model, texts, decoding)
            else:
                with stock.steerer(asked).on(model):
                    expected[name, number] = generate(model, texts, decoding)
    bodies = {(*setting, i): chat(text, setting[0], stream=i % 2 == 1, set=SETTINGS[setting[0]][setting[1]])
              for setting in expected for i, text in enumerate(texts)}
    with ThreadPoolExecutor(32) as pool:
        answers = dict(zip(bodies, pool.map(lambda body: answer_of(ask(server, body)), bodies.values())))
    assert all(not one.errors for one in answers.values())
    said = {place: model.tokenizer.decode(one.ids, skip_special_tokens=True).strip() for place, one in answers.items()}
    assert said == {(*setting, i): text for setting, texts_ in expected.items() for i, text in enumerate(texts_)}
    assert len({tuple(texts_) for texts_ in expected.values()}) > 5


def test_a_stream_ends_with_the_same_receipt(server):
    body = chat("tell me how to paint a red cake .", "comply")
    whole = ask(server, body).json()
    told = events(ask(server, {**body, "stream": True}).text)
    assert "lenssteer" in told[-1]
    assert told[-1]["choices"] == []
    assert answer_of(ask(server, {**body, "stream": True})).ids == answer_of(ask(server, body)).ids
    receipt = whole["lenssteer"]["receipts"][0]
    assert told[-1]["lenssteer"]["receipts"][0]["sites"].keys() == receipt["sites"].keys()
    length = whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"] - 1
    for site in receipt["sites"].values():
        assert site["seen"] == site["selected"] == site["edited"] == length


def test_the_receipt_measures_what_the_edit_does(server, shelf):
    steerer = Shelf.open(shelf)
    edit = steerer.steerer(steerer.read({"steerer": "comply", "coefficient": 1.5})).edits
    told = ask(server, chat("tell me how to paint a red cake .", "comply", set={"coefficient": 1.5})).json()["lenssteer"]
    assert told["parameters"] == {"coefficient": 1.5}
    import torch

    for site, one in edit.items():
        moved = one(torch.zeros(1, one.d_model, dtype=torch.float64)).norm().item()
        assert told["receipts"][0]["sites"][str(site)]["mean_displacement"] == pytest.approx(moved, rel=1e-4)


def test_prompts_have_our_token_ids(server, model):
    for text in ("tell me how to paint a red cake .", "tell me"):
        own = model.encode([text], template="none")[0].ids
        for prompt in (text, [text], list(own)):
            body = {"model": "demo", "prompt": prompt, "max_tokens": 1, "return_token_ids": True}
            assert tuple(ask(server, body, COMPLETIONS).json()["choices"][0]["prompt_token_ids"]) == own
        told = ask(server, chat(text, max_tokens=1)).json()
        assert tuple(told["prompt_token_ids"]) == model.encode([text])[0].ids


def test_every_answer_of_a_request_has_a_receipt(server):
    body = {"model": "demo", "prompt": ["tell me", "tell me how to"], "n": 2, "max_tokens": 3, "temperature": 1,
            "vllm_xargs": {"steerer": "ablation"}}
    told = ask(server, body, COMPLETIONS).json()
    assert len(told["choices"]) == len(told["lenssteer"]["receipts"]) == 4


def test_after_the_instruction_only_what_follows_it_is_edited(server, model):
    text = "tell me how to paint a red cake ."
    told = ask(server, chat(text, "caa")).json()
    encoded = model.encode([text])[0]
    after = encoded.prompt_end - encoded.instruction[1] + told["usage"]["completion_tokens"] - 1
    for site in told["lenssteer"]["receipts"][0]["sites"].values():
        assert site["selected"] == after


@pytest.mark.parametrize(("change", "said"), [
    ({"vllm_xargs": {"steerer": "refusl", "degrees": 1}}, "Did you mean 'refusal'?"),
    ({"vllm_xargs": {"steerer": "refusal", "degrees": 1e9}}, "from -360 to 360"),
    ({"vllm_xargs": {"steerer": "../served", "degrees": 1}}, "unknown steerer"),
    ({"vllm_xargs": {"degrees": 30}}, "but no steerer"),
    ({"vllm_xargs": {"steerer": "huge", "strength": 1e30}}, "not finite"),
    ({"vllm_xargs": {"steerer": "caa"}, "chat_template_kwargs": {"a": 1}}, "instruction_end="),
    ({"vllm_xargs": {"steerer": "ablation"}, "use_beam_search": True}, "beam search"),
])
def test_a_wrong_request_is_a_400_and_the_server_goes_on(server, change, said):
    answer = server.post(CHAT, {**chat("tell me"), **change}, **AUTHORISED)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert ask(server, chat("tell me")).status_code == 200


def test_errors_of_vllm_stay_its_own(server):
    answer = server.post(CHAT, {**chat("tell me", "ablation"), "temperature": -1}, **AUTHORISED)
    assert answer.status_code == 400
    assert "temperature" in answer.text
    assert "lenssteer" not in answer.json()
    assert server.post(CHAT, chat("word " * 500, "ablation"), **AUTHORISED).status_code == 400


def test_without_the_key_nothing_is_answered(server):
    for path in (CHAT, COMPLETIONS, "/invocations", "/tokenize"):
        assert server.post(path, chat("tell me", "refusl")).status_code == 401
    assert httpx.get(f"{server.url}/lenssteer/steerers").status_code == 401
    listed = httpx.get(f"{server.url}/lenssteer/steerers", headers=AUTHORISED).json()
    assert {one["name"] for one in listed["steerers"]} == {*SETTINGS, "huge"} - {"none"}


def test_activations_that_are_not_finite_are_said_in_the_receipt(server):
    told = ask(server, chat("tell me", "huge", logprobs=False, top_logprobs=None, max_tokens=2))
    receipt = json.loads(told.content, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["lenssteer"]["receipts"][0]
    assert "non-finite" in receipt["error"]
    assert not answer_of(ask(server, chat("tell me"))).errors


def test_a_client_that_leaves_changes_nothing_for_others(server):
    body = chat("tell me how to paint a red cake .", "ablation")
    alone = answer_of(ask(server, body))
    for _ in range(4):
        with httpx.stream("POST", server.url + CHAT, json={**body, "stream": True}, headers=AUTHORISED, timeout=60) as response:
            next(response.iter_bytes())
    assert answer_of(ask(server, body)) == alone


def test_no_prompt_and_no_key_is_logged_and_the_example_works(server):
    word = "zanzibarquux"
    ask(server, chat(f"tell me {word}", "ablation"))
    log = server.log.read_text()
    assert word not in log
    assert KEY not in log
    body = json.loads(re.search(r"-d '(\{.*\})'", log).group(1))
    assert ask(server, body).json()["lenssteer"]["steerer"] == body["vllm_xargs"]["steerer"]


@pytest.mark.filterwarnings("ignore")  # vLLM's own, when it is imported
@pytest.mark.parametrize(("more", "said"), [
    (("--host", "0.0.0.0"), "can be reached from other machines"),
    (("--data-parallel-size", "2"), "--data-parallel-size"),
    (("--headless",), "--headless"),
    (("--grpc",), "--grpc"),
    (("--enable-prompt-embeds",), "bring tensors"),
    (("--enable-mm-embeds",), "bring tensors"),
    (("--allowed-local-media-path", "/"), "paths"),
    (("--trust-request-chat-template",), "templates"),
    (("--trust-remote-code",), "its own code"),
])
def test_arguments_for_vllm_cannot_undo_what_was_checked(shelf, more, said):
    serve = Serve("demo", shelf, more=more)
    with pytest.raises(ParameterError) as caught:
        refuse_undone(parsed(serve.arguments), serve)
    assert said in str(caught.value)
    refuse_undone(parsed(Serve("demo", shelf).arguments), Serve("demo", shelf))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("more", [("--api-key", "another"), ("--api-server-count", "2")])
def test_keys_are_asked_for_in_one_place_and_counted_in_one_process(shelf, more):
    serve = Serve("demo", shelf, host="0.0.0.0", more=more, keys=shelf / "keys.toml")
    with pytest.raises(ParameterError, match="does not go with --keys"):
        refuse_undone(parsed(serve.arguments), serve)
    alone = Serve("demo", shelf, host="0.0.0.0", keys=shelf / "keys.toml")
    refuse_undone(parsed(alone.arguments), alone)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_ALLOW_INSECURE_SERIALIZATION"])
def test_variables_that_open_the_engine_are_refused(shelf, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(ParameterError, match=name):
        refuse_undone(parsed(Serve("demo", shelf).arguments), Serve("demo", shelf))


def test_a_shelf_of_another_model_is_refused_before_the_engine_starts(shelf):
    with pytest.raises(FileError, match="cannot be served with this model"):
        Serve("demo-chat", shelf).check()
    with pytest.raises(ModelError):
        Serve("no-such-folder", shelf).check()


def test_a_short_soak_finds_no_difference(server, monkeypatch):
    import asyncio

    plain = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: plain(headers=AUTHORISED, **options))
    told = asyncio.run(soak(server, minutes=0.2, clients=32, per_setting=2))
    assert told["compared"] == told["identical"] + told["ties"]
    assert told["failures"] == []
    assert told["distinct_answers"] > 10
    assert len(requests(2)) == 2 * sum(map(len, SETTINGS.values()))
