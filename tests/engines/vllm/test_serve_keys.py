"""Files of keys, and the door they open."""

import json
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lenssteer.engines.vllm import http_door
from lenssteer.engines.vllm.asked import Asked, Offer, Range
from lenssteer.engines.vllm.http_door import Door
from lenssteer.engines.vllm.http_keys import Key, Keys, hashed, new_key, read_keys
from lenssteer.engines.vllm.http_refused import RefusedError
from lenssteer.engines.vllm.http_tokens import hold_to_tokens
from lenssteer.errors import FileError, LenssteerError, ParameterError

OFFERS = {"refusal": Offer("refusal", "a", {"degrees": Range(low=-360, high=360)}),
          "comply": Offer("comply", "b", {"coefficient": Range(low=-3, high=3, default=-1)}),
          "ablation": Offer("ablation", "c", {"strength": Range(low=0, high=1, default=1)})}
DIGESTS = [sha256(name.encode()).hexdigest() for name in ("one", "two", "three")]
TOML = f"""
concurrent = 8

[[keys]]
name = "class"
sha256 = "{DIGESTS[0]}"
requests_per_minute = 30
steerers.ablation = {{}}
steerers.refusal.degrees = {{ low = -90, high = 90 }}

[[keys]]
name = "mine"
sha256 = "{DIGESTS[1]}"
"""


def key(**more):
    return Key.model_validate({"name": "k", "sha256": DIGESTS[0], **more})


def authorised(text):
    return {b"authorization": f"Bearer {text}".encode()}


def test_a_file_says_what_each_key_may_do(tmp_path):
    (tmp_path / "keys.toml").write_text(TOML)
    keys = read_keys(tmp_path / "keys.toml")
    assert keys.concurrent == 8
    first, second = keys.keys
    assert (first.name, first.requests_per_minute, first.steerers["refusal"]["degrees"].high) == ("class", 30, 90)
    assert second.steerers is None
    assert all(limit is not None for limit in (second.requests_per_minute, second.concurrent, second.max_tokens,
                                               second.max_prompt_tokens, second.max_body_bytes))
    (tmp_path / "keys.json").write_text(keys.model_dump_json(exclude_none=True))
    assert read_keys(tmp_path / "keys.json") == keys


@pytest.mark.parametrize(("text", "said"), [
    ("", "keys"), ("keys = []", "at least 1"), ("[[keys]]\nname = 'a'", "sha256"), ("a = {", "not TOML"),
    ("[[keys]]\nname = 'a b'\nsha256 = '" + DIGESTS[0] + "'", "name"),
    ("[[keys]]\nname = 'a'\nsha256 = 'secret'", "sha256"),
    (TOML.replace("30", "'30'"), "requests_per_minute"), (TOML.replace("= 8", "= true"), "concurrent"),
    (TOML + "unsteered = 'no'", "unsteered"), (TOML.replace("30", "0"), "requests_per_minute"), (TOML.replace("30", "-1"), "requests_per_minute"),
    (TOML.replace("low = -90", "low = 99"), "low <= default <= high"),
    (TOML.replace("high = 90", "high = nan"), "finite"),
    (TOML.replace("requests_per_minute", "request_per_minute"), "Extra inputs"),
    (TOML.replace('"mine"', '"class"'), "2 keys have the name class"),
    (TOML.replace(DIGESTS[1], DIGESTS[0]), "2 keys have the sha256"),
])
def test_a_wrong_file_is_refused_with_the_place(tmp_path, text, said):
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(FileError) as caught:
        read_keys(tmp_path / "keys.toml")
    assert said in str(caught.value)
    assert "keys.toml" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), place=st.integers(0, len(TOML)), name=st.sampled_from(["keys.toml", "keys.json"]))
def test_only_our_errors_come_out_of_a_broken_file(tmp_path_factory, data, place, name):
    path = tmp_path_factory.mktemp("keys") / name
    for content in (data, TOML.encode()[:place] + data + TOML.encode()[place:], b"[" * 5000):
        path.write_bytes(content)
        with suppress(LenssteerError):
            read_keys(path)


@pytest.mark.parametrize(("more", "said"), [
    ({"steerers": {"refusl": {}}}, "Did you mean 'refusal'?"),
    ({"steerers": {"refusal": {"angle": {"low": 0, "high": 1}}}}, "unknown parameter 'angle'"),
    ({"steerers": {"refusal": {"degrees": {"low": -400, "high": 0}}}}, "more than the shelf allows"),
    ({"steerers": {"refusal": {}}}, "may not use 'ablation'"),
    ({"steerers": {}, "unsteered": False}, "may not use"),
])
def test_a_key_that_asks_for_what_the_shelf_has_not_is_refused(more, said):
    with pytest.raises(FileError) as caught:
        key(**more).check(OFFERS, "ablation")
    assert said in str(caught.value)
    key(steerers={"ablation": {}}).check(OFFERS, "ablation")
    with pytest.raises(FileError, match="may do nothing"):
        key(steerers={}, unsteered=False).check(OFFERS, "")


def test_a_key_sees_its_steerers_within_its_ranges():
    own = key(steerers={"refusal": {"degrees": {"low": -90, "high": 90}}, "comply": {"coefficient": {"low": 0, "high": 1}}})
    offers = own.offers(OFFERS)
    assert Asked.read({"steerer": "refusal", "degrees": 90}, offers).parameters == (("degrees", 90.0),)
    for wrong, said in (({"steerer": "refusal", "degrees": 91}, "from -90 to 90"), ({"steerer": "ablation"}, "unknown"),
                        ({"steerer": "comply"}, "from 0 to 1")):
        with pytest.raises(ParameterError, match=said):
            Asked.read(wrong, offers)
    assert Asked.read({"steerer": "comply"}, key(steerers={"comply": {}}).offers(OFFERS)).parameters == (("coefficient", -1.0),)
    assert offers["refusal"].digest == OFFERS["refusal"].digest
    assert key().offers(OFFERS) == OFFERS


@given(st.text())
def test_hashes_are_sha256(text):
    raw = text.encode(errors="surrogatepass")
    assert hashed(raw) == sha256(raw).hexdigest()


def test_new_keys_are_long_and_new():
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 43
    assert all(one.isascii() and " " not in one for one in made)


def test_the_command_prints_a_key_with_its_hash(tmp_path):
    import typer

    from lenssteer.cli.serve import serve

    app = typer.Typer()
    app.command()(serve)
    told = CliRunner().invoke(app, ["--new-key"])
    assert told.exit_code == 0, told.output
    (_, made), (_, digest) = (line.split() for line in told.stdout.splitlines())
    assert digest == sha256(made.encode()).hexdigest()
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{"name": "a", "sha256": digest}]}))
    with Door(read_keys(tmp_path / "keys.json")).let_in(authorised(made)) as found:
        assert found.name == "a"


def test_every_key_is_compared_whatever_matches(monkeypatch):
    compared = []
    plain = http_door.secrets.compare_digest
    monkeypatch.setattr(http_door.secrets, "compare_digest", lambda a, b: compared.append(b) or plain(a, b))
    door = Door(Keys.model_validate({"keys": [{"name": f"k{i}", "sha256": one} for i, one in enumerate(DIGESTS)]}))
    for given_key in ("one", "three", "wrong", ""):
        with suppress(RefusedError):
            door.key_of(authorised(given_key))
        assert compared == DIGESTS
        compared.clear()


@settings(max_examples=100, deadline=None)
@given(gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60), most=st.integers(1, 8))
def test_no_minute_has_more_requests_than_the_key_may_send(gaps, most):
    clock = [0.0]
    door = Door(Keys(keys=(key(requests_per_minute=most, sha256=hashed(b"one")),)))
    came = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_door.time, "monotonic", lambda: clock[0])
        for gap in gaps:
            clock[0] += gap
            recent = [time for time in came if time > clock[0] - 60]
            if len(recent) < most:
                with door.let_in(authorised("one")):
                    came.append(clock[0])
            else:
                with pytest.raises(RefusedError) as caught, door.let_in(authorised("one")):
                    pass
                assert caught.value.status == 429
                assert recent[0] + 60 <= clock[0] + int(caught.value.headers["retry_after"]) < recent[0] + 61
    assert door.inside == 0


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 6))
def test_places_are_given_back_whatever_happens(ends, own, most):
    """A model of the door: a list of who is inside."""
    keys = Keys(keys=(key(concurrent=own, requests_per_minute=None, sha256=hashed(b"one")),
                      key(name="other", concurrent=own, requests_per_minute=None, sha256=hashed(b"two"))), concurrent=most)
    door, inside = Door(keys), []
    for turn, leaves in enumerate(ends):
        name = ("one", "two")[turn % 2]
        if leaves and inside:
            inside.pop(0)[1].__exit__(None, None, None)
            continue
        visit = door.let_in(authorised(name))
        mine = sum(who == name for who, _ in inside)
        if mine < own and len(inside) < most:
            visit.__enter__()
            inside.append((name, visit))
        else:
            with pytest.raises(RefusedError) as caught:
                visit.__enter__()
            assert caught.value.status == (429 if mine >= own else 503)
    assert door.inside == len(inside)
    for _, visit in inside:
        with pytest.raises(ZeroDivisionError):
            visit.gen.throw(ZeroDivisionError())
    assert door.inside == sum(held.inside for held in door.held.values()) == 0


@pytest.mark.parametrize(("request_", "chat", "left"), [
    ({}, True, 100), ({"n": 3}, True, 33), ({"prompt": ["a", "b"], "n": 2}, False, 16), ({"prompt": "a"}, False, 16),
    ({"prompt": ["a"] * 20}, False, 5), ({"prompt": [1, 2, 3]}, False, 16), ({"prompt": [[1], [2]], "max_tokens": 50}, False, 50),
    ({"max_completion_tokens": 100, "max_tokens": 7}, True, 7), ({"max_tokens": None}, True, 100), ({"max_tokens": 0, "prompt": "a"}, False, 0),
])
def test_what_says_no_number_gets_what_is_left(request_, chat, left):
    request = dict(request_)
    hold_to_tokens(request, key(max_tokens=100), chat=chat)
    assert request["max_tokens"] == left
    untouched = dict(request_)
    hold_to_tokens(untouched, key(max_tokens=None), chat=chat)
    assert untouched == request_


@pytest.mark.parametrize("request_", [
    {"max_tokens": 101}, {"max_completion_tokens": 101}, {"max_tokens": 5, "max_completion_tokens": 101},
    {"n": 2, "max_tokens": 51}, {"n": 101}, {"prompt": ["a"] * 101}, {"prompt": ["a"] * 2, "max_tokens": 51},
    {"max_tokens": "7"}, {"max_tokens": 7.0}, {"n": "1"}, {"max_tokens": True}, {"use_beam_search": True},
])
def test_more_tokens_than_the_key_may_have_are_refused(request_):
    with pytest.raises(ParameterError):
        hold_to_tokens(dict(request_), key(max_tokens=100), chat=False)
