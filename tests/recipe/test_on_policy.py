"""On-policy contrasts: answers, conversations and activations against the transformers model run by hand."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lenssteer.errors import ParameterError, PromptError
from lenssteer.models import Decoding
from lenssteer.models.demo.world import DISHONEST, HONEST, facts
from lenssteer.recipe import calibrate, on_policy_contrast
from lenssteer.site import Site

SITE = Site(4, "resid_post")
SHORT = Decoding(12)


@pytest.fixture(scope="module")
def scenarios():
    """Questions about facts: the honest and the dishonest answer differ."""
    return [prompt.text for prompt in facts("calibration")[:12]]


@pytest.fixture(scope="module")
def contrast(demo, scenarios):
    return on_policy_contrast(demo, scenarios, positive_system=HONEST, negative_system=DISHONEST, decoding=SHORT)


def ids_by_hand(demo, system, prompt):
    """The chat format of the demo model, written out word by word."""
    words = f"<bos> <system> {system} <end> <user> {prompt} <end> <assistant>".split()
    return demo.tokenizer.convert_tokens_to_ids(words)


@torch.no_grad()
def greedy(demo, ids):
    """An answer of transformers' own, one full pass a token."""
    new = []
    while len(new) < SHORT.max_new_tokens:
        chosen = int(demo.backend.model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
        if chosen in demo.stop_ids:
            break
        new.append(chosen)
    return new


def test_every_scenario_is_answered_under_both_system_prompts(demo, scenarios, contrast):
    for side, system in ((contrast.positive, HONEST), (contrast.negative, DISHONEST)):
        assert len(side) == len(scenarios)
        for exchange, prompt in zip(side, scenarios, strict=True):
            assert exchange.answer == demo.tokenizer.decode(greedy(demo, ids_by_hand(demo, system, prompt)))
    different = sum(a.answer != b.answer for a, b in zip(contrast.positive, contrast.negative, strict=True))
    assert different == len(scenarios)


def test_an_exchange_holds_the_conversation_it_was_given_in(scenarios, contrast):
    for side, system in ((contrast.positive, HONEST), (contrast.negative, DISHONEST)):
        for exchange, prompt in zip(side, scenarios, strict=True):
            assert exchange.prompt == ({"role": "system", "content": system}, {"role": "user", "content": prompt})


def test_each_scenario_may_have_its_own_system_prompt(demo, scenarios):
    systems = [HONEST, "you are an assistant .", "", HONEST]
    found = on_policy_contrast(demo, scenarios[:4], positive_system=systems, negative_system=DISHONEST, decoding=SHORT)
    for exchange, system, prompt in zip(found.positive, systems, scenarios, strict=False):
        words = ids_by_hand(demo, system, prompt) if system else demo.encode([prompt])[0].ids
        assert exchange.answer == demo.tokenizer.decode(greedy(demo, words))
        assert len(exchange.prompt) == 1 + bool(system)
    assert [e.prompt[0]["content"] for e in found.negative] == [DISHONEST] * 4


def test_answers_are_drawn_as_asked(demo, scenarios):
    """The limit cuts answers of eight words; the seed of sampling decides what is drawn."""
    given = {"positive_system": HONEST, "negative_system": DISHONEST}
    one = on_policy_contrast(demo, scenarios[:3], decoding=Decoding(7), **given)
    assert all(len(e.answer.split()) == 7 for e in (*one.positive, *one.negative))
    draws = [on_policy_contrast(demo, scenarios, decoding=Decoding(8, temperature=3.0, seed=seed), **given).sha256
             for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_activations_are_read_over_the_answer(demo, scenarios, contrast):
    """One vector a response: the mean over its tokens, without the prompt; and the whole SwFC vector from those."""
    calibration = calibrate(demo, contrast, sites=[SITE], at="mean(answer)")
    sides = []
    for side, system in ((contrast.positive, HONEST), (contrast.negative, DISHONEST)):
        rows = []
        for exchange, prompt in zip(side, scenarios, strict=True):
            ids = ids_by_hand(demo, system, prompt)
            answer = demo.tokenizer.convert_tokens_to_ids(exchange.answer.split())
            with torch.no_grad():
                states = demo.backend.model(torch.tensor([ids + answer]), output_hidden_states=True).hidden_states
            rows.append(states[SITE.layer + 1][0, len(ids):].double().mean(0).numpy())
        sides.append(np.stack(rows))
    for ours, mine in zip((calibration.samples.positive, calibration.samples.negative), sides, strict=True):
        np.testing.assert_allclose(ours[0], mine, atol=2e-5)
    fitted = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(np.concatenate(sides), [1] * 12 + [0] * 12)
    v = fitted.coef_[0] / np.linalg.norm(fitted.coef_[0])
    moved = calibration.steerer("swfc").edits[SITE](torch.zeros(1, len(v), dtype=torch.float64))[0]
    np.testing.assert_allclose(moved, ((sides[0] - sides[1]).mean(0) @ v) * v, atol=2e-3)
    assert calibration.record["at"] == "mean(answer)"


@pytest.mark.parametrize("count", [0, 2, 4])
def test_there_is_one_system_prompt_a_scenario(demo, scenarios, count):
    for side, other in (("positive_system", "negative_system"), ("negative_system", "positive_system")):
        with pytest.raises(ParameterError, match=f"3 scenarios need as many system prompts, or one; got {count}"):
            on_policy_contrast(demo, scenarios[:3], **{side: [HONEST] * count, other: DISHONEST})


def test_what_tells_no_classes_apart_is_refused(demo, scenarios):
    with pytest.raises(ParameterError, match="every answer is the same"):
        on_policy_contrast(demo, scenarios[:2], positive_system=HONEST, negative_system=HONEST, decoding=SHORT)
    with pytest.raises(PromptError, match="no prompts"):
        on_policy_contrast(demo, [], positive_system=HONEST, negative_system=DISHONEST)


def test_an_empty_answer_is_refused(demo, scenarios, monkeypatch):
    """A model that stops at once under one of the prompts."""
    from lenssteer.recipe import on_policy

    monkeypatch.setattr(on_policy, "generate", lambda _m, asked, *_a, **_k: [
        "" if turns[0]["content"] == DISHONEST and i == 1 else "yes" for i, turns in enumerate(asked)])
    with pytest.raises(PromptError, match="negative exchange 1 has no answer"):
        on_policy_contrast(demo, scenarios[:3], positive_system=HONEST, negative_system=DISHONEST)


def test_a_template_without_system_prompts_is_refused(demo, scenarios):
    with pytest.raises(PromptError, match="chat template"):
        on_policy_contrast(demo, scenarios[:2], positive_system=HONEST, negative_system=DISHONEST, template="none")
