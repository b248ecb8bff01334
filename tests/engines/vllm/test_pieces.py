"""Prompts in pieces, preemption and shared prefixes change nothing."""

import pytest

pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")

from dataclasses import replace

from lenssteer.errors import SteeringError
from lenssteer.models import Decoding, generate
from lenssteer.site import Site
from lenssteer.steering import Condition, Where
from tests.engines.vllm.conftest import started
from tests.engines.vllm.test_answers import PROMPTS, RULES, oracle, same
from tests.sweeps.test_mixed import steerers  # noqa: F401  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore")
DECODING = Decoding(20)
BLOCK = 32


@pytest.fixture(scope="module")
def pieces():
    """At most 16 tokens a step: prompts of several requests are cut."""
    return started(enforce_eager=True, max_num_batched_tokens=16, max_num_seqs=16, enable_prefix_caching=False)


@pytest.fixture(scope="module")
def tight():
    """Keys and values for 160 tokens, so that requests are preempted and computed again."""
    return started(enforce_eager=True, num_gpu_blocks_override=6, enable_prefix_caching=True)


def long(prompts):
    return [f"{prompt} {prompt}" for prompt in prompts]


def scheduler(engine):
    return engine.llm.llm_engine.engine_core.engine_core.scheduler


@pytest.mark.parametrize("rule", RULES)
def test_pieces_answer_as_whole_prompts(pieces, hooked, norm_out, resid_post, rule):
    one, other = norm_out.steerer("selective", degrees=180).at(rule), resid_post.steerer("caa", coefficient=-1.5).at(rule)
    parts = [(one, 1), (None, 1), (other.over("linear(4)"), 1)]
    with pieces.metered() as cost:
        found = pieces.answers(parts, long(PROMPTS), DECODING)
    assert cost.passes > DECODING.max_new_tokens + 3, "the prompts were cut"
    for (steerer, _), answers, receipt in zip(parts, found, pieces.receipts, strict=True):
        expected, theirs = oracle(hooked, steerer, long(PROMPTS), DECODING)
        assert answers == expected
        if steerer is not None:
            same(receipt, theirs, len(PROMPTS))


@pytest.fixture(scope="module")
def whole(steerers):  # noqa: F811
    """Steerers that need the whole prompt at once: a gate about it, and the change of its last token."""
    return [steerers["cast"], replace(steerers["alphasteer"], where=Where("prompt"), shared_from="last_prompt")]


def test_prompts_that_decide_their_own_edit_are_not_cut(pieces, hooked, whole):
    """They wait until all of their prompt fits into a step."""
    parts = [(whole[0], 1), (None, 1), (whole[1], 1), (None, 1)]
    found = pieces.answers(parts, PROMPTS, DECODING)
    for (steerer, _), answers, receipt in zip(parts, found, pieces.receipts, strict=True):
        expected, theirs = oracle(hooked, steerer, PROMPTS, DECODING)
        assert answers == expected
        if steerer is not None:
            same(receipt, theirs, len(PROMPTS))


def test_longer_ones_are_refused_before_they_run(pieces, whole):
    for steerer in whole:
        with pytest.raises(SteeringError, match="needs the whole prompt in one step, 16 tokens at most"):
            pieces.answers([(steerer, 1)], long(PROMPTS))


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_a_gate_of_the_answer_alone_is_decided_in_pieces(pieces, hooked, resid_post, pool):
    vector = resid_post.candidates.direction(Site(2, "resid_post")).vector
    steerer = resid_post.steerer("caa", coefficient=-2.0, sites=["resid_post.5"]).at("generated")
    steerer = steerer.when(Condition(Site(2, "resid_post"), vector, 0.0, pool=pool))
    expected, theirs = oracle(hooked, steerer, long(PROMPTS), DECODING)
    assert pieces.answers([(None, 1), (steerer, 1)], long(PROMPTS), DECODING)[1] == expected
    same(pieces.receipts[1], theirs, len(PROMPTS))


def test_preempted_requests_answer_the_same(tight, hooked, norm_out, whole):
    """Keys and values of a preempted request are computed again, answer tokens as answer tokens."""
    one = norm_out.steerer("selective", degrees=180)
    parts = [(None, 1), (one.at("generated"), 1), (one, 1), *((steerer, 1) for steerer in whole), (one.at("prompt").over("linear(4)"), 1)]
    preempted = []
    plain = scheduler(tight)._preempt_request
    scheduler(tight)._preempt_request = lambda request, *args, **kwargs: (
        preempted.append(request.request_id), plain(request, *args, **kwargs))[1]
    found = tight.answers(parts, long(PROMPTS), DECODING)
    assert preempted, "nothing was preempted"
    assert found == [oracle(hooked, steerer, long(PROMPTS), DECODING)[0] for steerer, _ in parts]


def cached(engine, steerer, prompts):
    """How many prompt tokens came from the prefix cache, and the answers."""
    with engine.metered() as cost:
        answers = engine.answers([(steerer, 1)], prompts, Decoding(4))[0]
    return sum(len(one.ids) for one in engine.encode(prompts)) - cost.prompt, answers


def test_prefixes_are_shared_by_the_same_edit_only(eager, hooked, norm_out, resid_post, steerers):  # noqa: F811
    prompts = [" ".join(["tell me how to paint a red cake ."] * 5)]
    blocks = (len(eager.encode(prompts)[0].ids) - 1) // BLOCK * BLOCK
    assert blocks >= BLOCK
    one, other = norm_out.steerer("selective", degrees=101), norm_out.steerer("selective", degrees=102)
    late, gated = one.at("generated"), resid_post.steerer("caa", coefficient=-1.0).when(steerers["cast"].gate)
    for steerer, hits in ((None, 0), (None, blocks), (one, 0), (other, 0), (one, blocks), (replace(one), blocks), (None, blocks),
                          (late, blocks), (one.at("last_prompt"), blocks), (gated, 0), (gated, 0), (one.over("linear(4)"), 0),
                          (one.over("linear(4)"), blocks)):
        found, answers = cached(eager, steerer, prompts)
        assert found == hits, (steerer and steerer.where, found)
        assert answers == oracle(hooked, steerer, prompts, Decoding(4))[0]


def test_edited_answers_are_not_taken_for_prompts(eager, hooked, norm_out):
    """An answer under an edit, asked for again as a part of the prompt, has other keys and values."""
    late = norm_out.steerer("selective", degrees=77).at("generated")
    [answer] = eager.answers([(late, 1)], PROMPTS[:1], Decoding(60))[0]
    prompts = [f"{PROMPTS[0]} {answer} {PROMPTS[1]}"]
    assert eager.answers([(None, 1), (late, 1)], prompts, Decoding(8)) == [
        generate(hooked, prompts, Decoding(8)), oracle(hooked, late, prompts, Decoding(8))[0]]
