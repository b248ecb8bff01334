"""What a request asks for: everything that may come over HTTP is either read or refused in words."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenssteer.engines.vllm.asked import Asked, Offer, Range
from lenssteer.errors import LenssteerError, ParameterError

OFFERS = {
    "refusal": Offer("refusal", "aaaa", {"degrees": Range(low=-360, high=360)}),
    "caa": Offer("caa", "bbbb", {"coefficient": Range(low=-2, high=2, default=1), "strength": Range(low=0, high=1, default=1)}),
    "fixed": Offer("fixed", "cccc", {}),
}


def read(**extra):
    return Asked.read(extra, OFFERS)


def refusal(**extra):
    with pytest.raises(ParameterError) as caught:
        read(**extra)
    return str(caught.value)


def test_values_are_read_and_defaults_filled_in():
    assert read(steerer="refusal", degrees=200).parameters == (("degrees", 200.0),)
    assert read(steerer="caa", strength=0.5).parameters == (("coefficient", 1.0), ("strength", 0.5))
    assert read(steerer="fixed", instruction_end=3, prompt_end=5) == Asked("fixed", "cccc", (), 3, 5)


def test_nothing_asked_is_nothing():
    assert Asked.read(None, OFFERS) is None
    assert read() is None
    assert read(steerer="none") is None
    assert read(kv_transfer_params={"a": 1}, of_another_plugin=3) is None
    assert read(steerer="fixed", kv_transfer_params={"a": 1}).name == "fixed"


@pytest.mark.parametrize(("extra", "said"), [
    ({"steerer": "refusl", "degrees": 1}, "Did you mean 'refusal'?"),
    ({"steerer": "refusal"}, "needs degrees, a number from -360 to 360"),
    ({"steerer": "refusal", "degrees": 361}, "from -360 to 360; got 361"),
    ({"steerer": "refusal", "degrees": math.nan}, "got nan"),
    ({"steerer": "refusal", "degrees": math.inf}, "got inf"),
    ({"steerer": "refusal", "degrees": 10**400}, "a very large number"),
    ({"steerer": "refusal", "degrees": True}, "got True"),
    ({"steerer": "refusal", "degrees": "200"}, "got '200'"),
    ({"steerer": "refusal", "degrees": [200]}, "got [200]"),
    ({"steerer": "refusal", "degree": 200}, "Did you mean 'degrees'?"),
    ({"steerer": "fixed", "degrees": 200}, "takes no parameters"),
    ({"steerer": 7}, "unknown steerer '7'"),
    ({"degrees": 200}, "but no steerer"),
    ({"steerer": "none", "degrees": 200}, "but no steerer"),
    ({"sterer": "fixed"}, "Did you mean 'steerer'?"),
    ({"steerer": "fixed", "prompt_end": -1}, "whole number from 0"),
    ({"steerer": "fixed", "prompt_end": 1.5}, "got 1.5"),
    ({"steerer": "fixed", "instruction_end": True}, "got True"),
    ({"steerer": "fixed", "instruction_end": 6, "prompt_end": 5}, "lies after prompt_end=5"),
    ({"steerer": "fixed", "lenssteer_ticket": 5}, "must be text"),
    ({"steerer": "fixed", "x" * 1000: 1}, "..."),
    ({f"a{i}": i for i in range(65)}, "64 values at most"),
])
def test_refusals_say_what_was_expected(extra, said):
    message = refusal(**extra)
    assert said in message
    assert len(message) < 400


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6)
NAMES = st.sampled_from(["steerer", "degrees", "coefficient", "strength", "instruction_end", "prompt_end",
                         "lenssteer_ticket", "kv_transfer_params"]) | st.text(max_size=12)


@given(st.dictionaries(NAMES, JSON | st.sampled_from(["refusal", "caa", "fixed", "none", 10**500]), max_size=6))
def test_whatever_comes_is_read_within_its_ranges_or_refused(extra):
    try:
        asked = Asked.read(extra, OFFERS)
    except LenssteerError:
        return
    if asked is not None:
        ranges = OFFERS[asked.name].ranges
        assert [name for name, _ in asked.parameters] == sorted(ranges)
        assert all(isinstance(value, float) and ranges[name].low <= value <= ranges[name].high for name, value in asked.parameters)
        assert Asked.read(json.loads(json.dumps(asked.extra_args)), OFFERS) == asked


def test_the_key_is_of_the_content():
    one = read(steerer="caa", coefficient=-0.0)
    assert one.key == read(steerer="caa", coefficient=0).key == read(steerer="caa", coefficient=0, strength=1.0).key
    others = [read(steerer="caa", coefficient=0.5), read(steerer="caa", coefficient=0, strength=0.5),
              Asked.read({"steerer": "caa", "coefficient": 0}, {"caa": Offer("caa", "dddd", OFFERS["caa"].ranges)})]
    assert len({one.key, *(other.key for other in others)}) == 4
    marked = read(steerer="caa", coefficient=0, prompt_end=5, lenssteer_ticket="t")
    assert marked.key == one.key
    same = Asked("another name", "bbbb", one.parameters)
    assert same.key == one.key
    assert len(one.key) == 16


@pytest.mark.parametrize("wrong", [{"low": 1, "high": 0}, {"low": 0, "high": 1, "default": 2}, {"low": 0, "high": "inf"},
                                   {"low": 0}, {"low": 0, "high": 1, "step": 1}])
def test_a_range_is_finite_ordered_and_holds_its_default(wrong):
    with pytest.raises(ValueError, match="validation error"):
        Range.model_validate(wrong)
