import numpy as np
import pytest
import torch

from lenssteer import edits
from lenssteer.errors import ParameterError, PromptError, SteeringError
from lenssteer.evals import Reference, next_token_divergence
from lenssteer.models import Decoding, generate
from lenssteer.prompts import pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer, Where, together

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?", "kite",
           "tell me how to hide a bomb ."]
SITE = Site(3, "resid_post")


@pytest.fixture(scope="module")
def vector(demo):
    return torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def steerer(vector):
    return Steerer({SITE: edits.add(vector)})


def log_probs(lens, prompt, answer, positions):
    """Of one prompt and answer in one pass without a cache: the last prompt token and what follows."""
    (one,) = lens.encode([prompt], answers=[answer])
    logits = lens.logits(pad([one]))[0].double().numpy()
    rows = logits[one.prompt_end - 1 :][:positions]
    return rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1, keepdims=True)


def oracle(lens, steerer, answers, tokens, stops):
    """Mean KL a prompt and top-1 agreement, from two plain runs in NumPy."""
    per_prompt, same = [], []
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        n = min(len(lens.tokenizer(answer, add_special_tokens=False)["input_ids"]) + stops, tokens)
        p = log_probs(lens, prompt, answer, n)
        with steerer.on(lens):
            q = log_probs(lens, prompt, answer, n)
        assert len(p) == n
        per_prompt.append((np.exp(p) * (p - q)).sum(1).mean())
        same += list(p.argmax(1) == q.argmax(1))
    return per_prompt, np.mean(same), len(same)


@pytest.mark.parametrize("tokens", [1, 2, 8, 16])
def test_kl_along_the_unsteered_answer_equals_numpy(demo, steerer, tokens):
    answers = generate(demo, PROMPTS, Decoding(15), batch_size=1)
    per_prompt, agreement, positions = oracle(demo, steerer, answers, tokens, stops=1)
    for batch_size in (2, 64):
        found = next_token_divergence(demo, steerer, PROMPTS, tokens=tokens, batch_size=batch_size)
        np.testing.assert_allclose(found.per_prompt, per_prompt, rtol=1e-4, atol=1e-6)
        assert (found.agreement, found.positions) == (pytest.approx(agreement), positions)
        assert found.mean == pytest.approx(np.mean(per_prompt), rel=1e-4)
    assert found.mean > 0.01
    assert 0 < agreement <= 1


def test_kl_along_given_answers_equals_numpy(demo, steerer):
    answers = ["no", "cake kite", "the color of a lemon is red .", "a", "i can not help with that ."]
    per_prompt, agreement, positions = oracle(demo, steerer, answers, 5, stops=0)
    found = next_token_divergence(demo, steerer, PROMPTS, answers=answers, tokens=5)
    np.testing.assert_allclose(found.per_prompt, per_prompt, rtol=1e-4, atol=1e-6)
    assert (found.agreement, found.positions) == (pytest.approx(agreement), positions)


def test_every_backend_finds_the_same(demo_models, steerer):
    found = [next_token_divergence(lens, steerer, PROMPTS, tokens=6) for lens in demo_models.values()]
    for one in found[1:]:
        torch.testing.assert_close(one.per_prompt, found[0].per_prompt, rtol=1e-3, atol=1e-5)
        assert (one.positions, one.agreement) == (found[0].positions, found[0].agreement)


def test_no_change_is_no_divergence(demo, vector):
    reference = Reference.of(demo, PROMPTS, tokens=4)
    for steerer in (None, Steerer({SITE: edits.add(0 * vector)}),
                    Steerer({SITE: edits.add(vector)}, gate=Condition(Site(1, "resid_post"), vector, 2.0))):
        found = reference.divergence(steerer)
        assert (found.mean, found.agreement) == (0.0, 1.0)
    with Steerer({SITE: edits.add(vector)}).on(demo):
        by_block = reference.divergence().mean
    assert by_block == reference.divergence(Steerer({SITE: edits.add(vector)})).mean > 0


def test_a_reference_serves_many_steerers_and_stays_unsteered(demo, steerer, vector):
    reference = Reference.of(demo, PROMPTS, tokens=4)
    first = reference.divergence(steerer).mean
    reference.divergence(together(steerer, Steerer({SITE: edits.add(9 * vector)}), conflict="sum"))
    assert reference.divergence(steerer).mean == first
    assert first == next_token_divergence(demo, steerer, PROMPTS, tokens=4).mean


def test_row_i_of_a_stack_steers_prompt_i(demo, vector):
    reference = Reference.of(demo, PROMPTS, tokens=4, batch_size=2)
    amounts = torch.tensor([0.0, 1.0, -2.0, 0.5, 3.0])
    rows = reference.divergence(Steerer({SITE: edits.add(vector, amounts)})).per_prompt
    for i, amount in enumerate(amounts.tolist()):
        alone = reference.divergence(Steerer({SITE: edits.add(vector, amount)})).per_prompt[i]
        assert float(rows[i]) == pytest.approx(float(alone), rel=1e-4, abs=1e-7)


def test_late_gates_and_rules_work_as_in_decoding(demo, vector):
    """The prompt passes first and the answer second, so a late gate is decided before the answer."""
    reference = Reference.of(demo, PROMPTS, tokens=4)
    edit = {SITE: edits.add(vector)}
    late = Steerer(edit, gate=Condition(Site(6, "resid_post"), vector, -2.0), late_gate="closed")
    assert reference.divergence(late).mean == reference.divergence(Steerer(edit, Where("generated"))).mean > 0


def test_bad_requests_are_refused(demo, steerer):
    with pytest.raises(ParameterError):
        Reference.of(demo, PROMPTS, tokens=0)
    with pytest.raises(ParameterError, match="one answer a prompt"):
        Reference.of(demo, PROMPTS, answers=["no"])
    with pytest.raises(PromptError, match="no token"):
        Reference.of(demo, PROMPTS, answers=["no", "", "no", "no", "no"])
    with pytest.raises(PromptError, match="more than"):
        Reference.of(demo, PROMPTS, tokens=demo.card.n_ctx)
    with pytest.raises(SteeringError, match="chose no token"):
        next_token_divergence(demo, steerer.at("generated"), PROMPTS, tokens=1)
