"""What of a request's keys and values other requests may use, and how its prompt may be cut."""

import pytest
import torch

from lenssteer import edits
from lenssteer.engines.vllm import private
from lenssteer.engines.vllm import settings as engine_settings
from lenssteer.engines.vllm.asked import STEERER
from lenssteer.engines.vllm.private import by_row, shelved
from lenssteer.engines.vllm.sharing import Sharing, refusal, sharing_of
from lenssteer.errors import ParameterError
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer, Where

SITE, LATER = Site(1, "resid_post"), Site(2, "resid_post")
VECTOR = torch.arange(1.0, 7.0, dtype=torch.float64)


def steerer(where="all", **options):
    return Steerer({SITE: edits.add(VECTOR, 2.0)}, Where.parse(where), **options)


def keys(one, ends, *, request="r", blocks=4, size=8):
    """Of the blocks of a request whose instruction and prompt end there."""
    sharing = Sharing.of("key", one, *ends)
    return [sharing.block_key(end * size, request) for end in range(1, blocks + 1)]


@pytest.mark.parametrize("rule", ["all", "prompt", "generated", "after_instruction", "last_prompt", "first_n(2)"])
@pytest.mark.parametrize("schedule", [None, "linear(4)"])
def test_blocks_with_the_same_key_hold_the_same_edits(rule, schedule):
    """Two requests agree on a block only where every token before its end is edited alike; checked token by token."""
    from lenssteer.prompts import Columns, Encoded, pad
    from lenssteer.steering import Schedule

    one = steerer(rule) if schedule is None else steerer(rule).over(schedule)
    factors = one.schedule or Schedule()

    def edited(ends):
        text = pad([Encoded(tuple(range(32)), (0, ends[0]), ends[1])])
        columns = Columns(0, torch.ones(1, 32, dtype=torch.bool), text)
        return (one.where.select(columns) * factors.factors(columns))[0]

    places = [(instruction, prompt) for prompt in range(1, 33) for instruction in (0, prompt // 2, prompt)]
    for ends in places:
        for block, key in enumerate(keys(one, ends)):
            until = (block + 1) * 8
            if key == ():
                assert not edited(ends)[:until].any(), "blocks that are shared with unsteered requests are not edited"
    found = {}
    for ends in places:
        for block, key in enumerate(keys(one, ends)):
            pattern = edited(ends)[: (block + 1) * 8]
            assert torch.equal(found.setdefault((block, key), pattern), pattern)
    assert len({keys(steerer(), ends)[0] for ends in places}) == 1, "equal prefixes of steered prompts are shared"


def test_what_the_whole_prompt_decides_is_shared_with_nobody():
    gated = steerer("prompt", gate=Condition(SITE, VECTOR, 0.0))
    released = steerer("prompt", shared_from="last_prompt")
    for one in (gated, released):
        assert keys(one, (8, 20), request="a") != keys(one, (8, 20), request="b")
    late = keys(steerer("generated", gate=Condition(SITE, VECTOR, 0.0)), (8, 20), request="a")
    assert late[:2] == [(), ()]
    assert late[2:] != keys(steerer("generated", gate=Condition(SITE, VECTOR, 0.0)), (8, 20), request="b")[2:]


@pytest.mark.parametrize(("one", "expected"), [
    (steerer(), {(0, 5): 5, (0, 20): 20, (12, 8): 8}),
    (steerer("generated", gate=Condition(SITE, VECTOR, 0.0)), {(0, 5): 5, (0, 20): 20}),
    (steerer(gate=Condition(SITE, VECTOR, 0.0)), {(0, 9): 0, (0, 10): 10, (0, 20): 20, (10, 1): 1}),
    (steerer(gate=Condition(LATER, VECTOR, 0.0), late_gate="closed"), {(0, 9): 0, (0, 10): 10, (0, 20): 10, (10, 4): 4}),
])
def test_how_a_prompt_of_ten_tokens_may_be_cut(one, expected):
    sharing = Sharing.of("key", one, 10, 10)
    assert {place: sharing.tokens(*place) for place in expected} == expected


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    monkeypatch.setenv(engine_settings.STEERERS, private.folder().name)
    monkeypatch.setenv(engine_settings.SITES, "")


class Scheduler:
    max_num_batched_tokens = 64
    long_prefill_token_threshold = 0


def test_requests_are_let_in_or_refused_with_the_reason(shelf):
    plain, whole = steerer(), steerer(gate=Condition(SITE, VECTOR, 0.0))
    assert refusal(None, 1000, Scheduler) is None
    assert refusal(shelved(plain), 1000, Scheduler) is None
    assert refusal(shelved(whole), 64, Scheduler) is None
    assert "64 tokens at most; this one has 65" in refusal(shelved(whole), 65, Scheduler)
    assert "unknown steerer" in refusal({STEERER: "nobody"}, 5, Scheduler)
    after = shelved(steerer("after_instruction"))
    assert "nobody said where that ends" in refusal(after, 9, Scheduler)
    assert refusal({**after, "instruction_end": 4}, 9, Scheduler) is None
    assert sharing_of({STEERER: "nobody"}, 5) is None
    assert sharing_of({**after, "instruction_end": 4, "prompt_end": 6}, 9).ends == (4, 6)


def test_steerers_are_shelved_by_what_they_do():
    first, second = steerer(), steerer()
    assert shelved(first) == shelved(first) == shelved(second) != shelved(steerer("prompt"))
    assert Steerer.load(f"{private.folder().name}/{shelved(first)[STEERER]}").edits[SITE].offset == first.edits[SITE].offset


def test_rows_that_agree_share_a_steerer():
    strengths = torch.tensor([1.0, 2.0, 1.0, 3.0])
    stacked = steerer().scaled(strengths)
    plain, which = by_row(stacked, 4)
    assert len(plain) == 3
    h = torch.randn(5, 6, dtype=torch.float64)
    for row, kind in enumerate(which):
        assert torch.equal(plain[kind].edits[SITE](h), steerer().scaled(float(strengths[row])).edits[SITE](h))
    same = steerer()
    assert by_row(same, 3) == ([same], [0, 0, 0])
    with pytest.raises(ParameterError, match="stacked for 4 rows, 5 are run"):
        by_row(stacked, 5)
