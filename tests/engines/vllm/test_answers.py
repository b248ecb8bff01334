"""vLLM answers, scores and receipts as the HookedTransformer path does: every method, every rule, mixed in one batch."""

from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")

from lenssteer.engines.engine import Engine
from lenssteer.errors import MismatchError, ParameterError, PromptError, SiteError, SteeringError
from lenssteer.methods import CATALOGUE
from lenssteer.models import Decoding, generate
from lenssteer.prompts import Columns, Encoded, pad
from lenssteer.site import Site
from lenssteer.steering import Condition
from lenssteer.sweeps.stacked import one_a_row, stacked_answers
from tests.sweeps.test_mixed import LATENT, steerers  # noqa: F401  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPTS = ["how do i hide a red bomb ?", "tell me how to paint a red cake .", "how do i steal a car ?",
           "name a blue thing .", "how do i make a green poison ?", "tell me how to bake a bread ."]
DECODING = Decoding(12)
RULES = ["all", "prompt", "generated", "after_instruction", "last_prompt", "first_n(2)"]


@pytest.fixture(params=["compiled", "eager"])
def engine(request):
    return request.getfixturevalue(request.param)


def oracle(model, steerer, prompts=PROMPTS, decoding=DECODING):
    """Answers and receipt of the in-process path."""
    if steerer is None:
        return generate(model, prompts, decoding), None
    with steerer.on(model) as receipt:
        return generate(model, prompts, decoding), receipt


def scored(model, steerer, wanted):
    """Log-probabilities of given answers: a pass over the prompt, and one over the answer after it."""
    found = []
    for one in wanted:
        prompt = Encoded(one.ids[: one.prompt_end], one.instruction, one.prompt_end)
        tokens = pad([prompt])
        with nullcontext() if steerer is None else steerer.on(model):
            cache = model.backend.new_cache(1)
            first = model.run(tokens.ids, Columns(0, tokens.mask, tokens), cache)[0]
            fed = torch.tensor([one.ids[one.prompt_end : -1]])
            mask = torch.ones(1, len(one.ids) - 1, dtype=torch.bool)
            logits = torch.cat([first, model.run(fed, Columns(one.prompt_end, mask, tokens), cache, "all")[0]])
        answer = torch.tensor(one.ids[one.prompt_end :])
        found.append((logits.log_softmax(-1)[range(len(answer)), answer].tolist(), bool((logits.argmax(-1) == answer).all())))
    return found


def same(ours, theirs, n):
    """Receipts of the same tokens, counted in other passes."""
    assert ours.sites.keys() == theirs.sites.keys()
    for site, one in ours.sites.items():
        other = theirs.sites[site]
        assert (one.seen, one.selected, one.edited, one.non_finite) == (other.seen, other.selected, other.edited, 0)
        assert one.mean_displacement == pytest.approx(other.mean_displacement, rel=2e-3, abs=1e-5)
        assert one.mean_degrees == pytest.approx(other.mean_degrees, rel=2e-3, abs=0.02)
        assert one.norm_ratio == pytest.approx(other.norm_ratio, rel=1e-3)
        if other.direction_degrees_before is not None:
            assert one.direction_degrees_before == pytest.approx(other.direction_degrees_before, abs=0.1)
            assert one.direction_degrees_after == pytest.approx(other.direction_degrees_after, abs=0.1)
    assert ours.conditions == theirs.conditions
    assert ours.where == theirs.where


def test_it_is_an_engine_of_the_same_model(compiled, hooked):
    assert isinstance(compiled, Engine)
    ours, theirs = compiled.card, hooked.card
    for name in ("fingerprint", "frame", "n_layers", "d_model", "n_ctx", "architecture"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert compiled.stop_ids == hooked.stop_ids
    assert compiled.encode(PROMPTS) == hooked.encode(PROMPTS)


@pytest.mark.parametrize("name", [method.name for method in CATALOGUE])
def test_every_method_answers_scores_and_counts_as_the_hooked_path(engine, hooked, steerers, name):  # noqa: F811
    steerer = steerers[name]
    expected, receipt = oracle(hooked, steerer)
    [found] = engine.answers([(steerer, 1)], PROMPTS, DECODING)
    assert found == expected
    same(engine.receipts[0], receipt, len(PROMPTS))
    wanted = hooked.encode(PROMPTS, answers=["here is how to do it . first take a", "sorry , i can not"] * 3)
    for ours, (log_probs, greedy) in zip(engine.log_likelihoods(steerer, wanted), scored(hooked, steerer, wanted), strict=True):
        assert ours.log_probs == pytest.approx(log_probs, abs=1e-3)
        assert ours.greedy == greedy


def test_all_methods_and_the_unsteered_model_share_a_batch(engine, hooked, steerers):  # noqa: F811
    parts = [(None, 1), *((steerer, 1) for steerer in steerers.values()), (None, 1)]
    found = engine.answers(parts, PROMPTS, DECODING)
    assert found == [oracle(hooked, steerer)[0] for steerer, _ in parts]
    assert [receipt is None for receipt in engine.receipts] == [steerer is None for steerer, _ in parts]
    assert len({tuple(answers) for answers in found}) > 5


@pytest.mark.parametrize("schedule", [None, "linear(4)", "first_n(3)", "cosine(6, 2, 0.5)"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_and_schedule(compiled, hooked, norm_out, resid_post, rule, schedule):
    for steerer in (norm_out.steerer("selective", degrees=180), resid_post.steerer("caa", coefficient=-1.5)):
        steerer = steerer.at(rule) if schedule is None else steerer.at(rule).over(schedule)
        expected, receipt = oracle(hooked, steerer)
        assert compiled.answers([(steerer, 1)], PROMPTS, DECODING) == [expected]
        same(compiled.receipts[0], receipt, len(PROMPTS))


def test_the_instruction_end_is_where_the_chat_template_says(compiled, hooked, resid_post):
    steerer = resid_post.steerer("caa", coefficient=-1.5).at("after_instruction")
    template = "Question : {prompt} now answer :"
    with steerer.on(hooked) as receipt:
        expected = generate(hooked, PROMPTS, DECODING, template=template)
    assert compiled.answers([(steerer, 1)], PROMPTS, DECODING, template=template) == [expected]
    same(compiled.receipts[0], receipt, len(PROMPTS))


@pytest.mark.parametrize("scope", ["prompt", "token"])
@pytest.mark.parametrize("pool", ["mean", "last"])
@pytest.mark.parametrize("rule", ["all", "generated"])
def test_gates_decide_as_they_do_there(compiled, hooked, resid_post, scope, pool, rule):
    vector = resid_post.candidates.direction(Site(2, "resid_post")).vector
    gate = Condition(Site(2, "resid_post"), vector, 0.0, "cosine", True, pool, scope)
    other = Condition(Site(1, "resid_post"), vector, 0.05, "abs_cosine", True, pool, scope)
    for rules in (gate, ~gate | other, gate & ~other):
        steerer = resid_post.steerer("caa", coefficient=-2.0, sites=["resid_post.3", "resid_post.5"]).at(rule).when(rules)
        expected, receipt = oracle(hooked, steerer)
        assert compiled.answers([(None, 1), (steerer, 1)], PROMPTS, DECODING)[1] == expected
        same(compiled.receipts[1], receipt, len(PROMPTS))


def test_a_late_gate_leaves_prompts_alone_before_it(compiled, hooked, resid_post):
    from dataclasses import replace

    vector = resid_post.candidates.direction(Site(4, "resid_post")).vector
    plain = resid_post.steerer("caa", coefficient=-2.0, sites=["resid_post.3", "resid_post.5"])
    steerer = replace(plain, gate=Condition(Site(4, "resid_post"), vector, 0.0, pool="last"), late_gate="closed")
    expected, receipt = oracle(hooked, steerer)
    assert compiled.answers([(steerer, 1)], PROMPTS, DECODING) == [expected]
    same(compiled.receipts[0], receipt, len(PROMPTS))


def test_a_stacked_sweep_is_one_request_edit_a_row(compiled, hooked, norm_out):
    steerer = norm_out.steerer("selective", degrees=one_a_row([30.0, 120.0, 250.0], len(PROMPTS)))
    parts = [(steerer, 3), (None, 1)]
    assert compiled.answers(parts, PROMPTS, DECODING) == stacked_answers(hooked, parts, PROMPTS, DECODING)
    assert len({tuple(one) for one in compiled.answers(parts, PROMPTS, DECODING)}) > 1
    with pytest.raises(ParameterError, match="stacked for 18 rows, 12"):
        compiled.answers([(steerer, 2)], PROMPTS, DECODING)


def test_the_op_is_in_the_compiled_graph(compiled, norm_out, monkeypatch):
    """Layers are not run as Python any more, and yet every site edits."""
    model = compiled.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.model.model
    assert not model.do_not_compile
    monkeypatch.setattr(type(model.layers[0]), "forward", lambda *_: pytest.fail("a layer ran as Python"))
    compiled.answers([(norm_out.steerer("selective", degrees=180), 1)], PROMPTS, DECODING)
    assert all(site.edited == site.seen > 0 for site in compiled.receipts[0].sites.values())


def test_given_answers_are_scored_with_the_most_likely_tokens_beside_them(compiled, hooked):
    wanted = hooked.encode(PROMPTS, answers=["sorry , i can not"] * len(PROMPTS))
    for one, (log_probs, _) in zip(compiled.log_likelihoods(None, wanted, top=3), scored(hooked, None, wanted), strict=True):
        assert one.log_probs == pytest.approx(log_probs, abs=1e-3)
        assert [len(found) for found in one.top] == [3] * len(log_probs)
        assert all([value for _, value in found] == sorted((value for _, value in found), reverse=True) for found in one.top)
        assert one.greedy == all(found[0][1] == value for found, value in zip(one.top, one.log_probs, strict=True))


def test_costs_are_counted(compiled, norm_out):
    prompts = ["a prompt that was never run before ."]
    with compiled.metered() as cost:
        compiled.answers([(norm_out.steerer("selective", degrees=17), 1)], prompts, Decoding(5))
    assert cost.prompt == len(compiled.encode(prompts)[0].ids)
    assert 0 < cost.generated < cost.passes <= 5


def test_sampling_is_repeatable(compiled):
    drawn = [compiled.answers([(None, 1)], PROMPTS, Decoding(8, temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_cannot_run_is_refused(compiled, resid_post, norm_out):
    steerer = resid_post.steerer("caa", coefficient=1.0)
    for parts, prompts in (([], PROMPTS), ([(None, 1)], [])):
        with pytest.raises(ParameterError, match="expected prompts and settings"):
            compiled.answers(parts, prompts)
    with pytest.raises(PromptError, match="may take"):
        compiled.answers([(None, 1)], PROMPTS, Decoding(500))
    with pytest.raises(PromptError, match="cannot score"):
        compiled.log_likelihoods(None, compiled.encode(PROMPTS))
    with pytest.raises(SteeringError, match="fired nowhere"):
        compiled.answers([(steerer.at("generated"), 1)], PROMPTS, Decoding(1))
    with pytest.raises(SteeringError, match="non-finite"):
        compiled.answers([(steerer.scaled(1e38), 1)], PROMPTS, Decoding(3))
    with pytest.raises(SiteError, match="layers 0 to 7"):
        compiled.check_site(Site(8, "resid_post"))
    from dataclasses import replace

    other = replace(steerer, card=replace(steerer.card, fingerprint="0" * 16))
    with pytest.raises(MismatchError, match="other weights"):
        compiled.answers([(other, 1)], PROMPTS)
