import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.errors import ParameterError, PromptError
from lenssteer.recipe.refusal_metric import refusal_log_odds, refusal_score, refusal_tokens
from lenssteer.site import Site
from lenssteer.steering import Steerer


@pytest.fixture(scope="module")
def sides(demo_contrast):
    return demo_contrast.positive[:30], demo_contrast.negative[:30]


def first_token_probabilities(demo, prompt):
    """Softmax of the last logits from transformers alone, no padding, float64 NumPy."""
    ids = demo.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                             tokenize=True, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        logits = demo.backend.model(ids).logits[0, -1].double().numpy()
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=9), st.data())
def test_the_score_is_the_log_odds_of_the_tokens(logits, data):
    tokens = data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1, max_size=len(logits) - 1))
    p = np.exp(np.array(logits)) / np.exp(logits).sum()
    inside, outside = p[list(tokens)].sum(), np.delete(p, list(tokens)).sum()
    found = refusal_score(torch.tensor(logits, dtype=torch.float64), sorted(tokens))
    assert found.item() == pytest.approx(math.log(inside) - math.log(outside), abs=1e-9)
    theirs = refusal_score(torch.tensor(logits, dtype=torch.float64), sorted(tokens), compat="arditi")
    assert theirs.item() == pytest.approx(math.log(inside + 1e-8) - math.log(1 - inside + 1e-8), abs=1e-6)


def test_the_score_does_not_saturate_where_the_authors_does():
    logits = torch.tensor([[200.0, 0.0], [0.0, 300.0]])
    assert refusal_score(logits, [0]).tolist() == [200.0, -300.0]
    limit = math.log(1 + 1e-8) - math.log(1e-8)
    np.testing.assert_allclose(refusal_score(logits, [0], compat="arditi"), [limit, -limit], atol=1e-9)


def test_probabilities_and_repeated_tokens_give_the_same_score():
    logits = torch.tensor([[0.3, -2.0, 1.0, 0.5]], dtype=torch.float64)
    expected = refusal_score(logits, [0, 2])
    torch.testing.assert_close(refusal_score(logits.log_softmax(-1), [2, 0, 2]), expected)


@pytest.mark.parametrize("tokens", [[], [0, 1, 2], [3], [-1]])
def test_tokens_that_say_nothing_are_refused(tokens):
    with pytest.raises(ParameterError, match="not all, token ids in 0 to 2"):
        refusal_score(torch.zeros(3), tokens)


def test_unknown_compat_is_refused():
    with pytest.raises(ParameterError, match="unknown compat"):
        refusal_score(torch.zeros(3), [1], compat="other")


def test_log_odds_of_prompts_equal_numpy_and_do_not_depend_on_the_batch(demo, sides):
    prompts = [*sides[0][:9], *sides[1][:9]]
    tokens = [demo.tokenizer.convert_tokens_to_ids("sorry"), demo.tokenizer.convert_tokens_to_ids("you")]
    found = refusal_log_odds(demo, prompts, tokens)
    for prompt, score in zip(prompts, found.tolist(), strict=True):
        p = first_token_probabilities(demo, prompt)[tokens].sum()
        assert score == pytest.approx(math.log(p) - math.log(1 - p), abs=1e-4)


def test_a_steerer_is_on_for_the_call_only(demo, sides):
    token = [demo.tokenizer.convert_tokens_to_ids("sorry")]
    plain = refusal_log_odds(demo, sides[0][:3], token)
    push = Steerer({Site(4, "resid_post"): edits.add(torch.randn(demo.card.d_model), 5.0)})
    steered = refusal_log_odds(demo, sides[0][:3], token, push)
    assert (steered - plain).abs().min() > 0.05
    with push.on(demo):
        assert torch.equal(refusal_log_odds(demo, sides[0][:3], token), steered)
    assert torch.equal(refusal_log_odds(demo, sides[0][:3], token), plain)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_tokens_are_the_smallest_set_of_raised_mass(demo, sides, share):
    plus, minus = (np.mean([first_token_probabilities(demo, p) for p in side], 0) for side in sides)
    raised = np.clip(plus - minus, 0, None)
    found = refusal_tokens(demo, *sides, share=share)
    assert found[0] == demo.tokenizer.convert_tokens_to_ids("sorry")
    assert raised[list(found)].sum() >= share * raised.sum() - 1e-5
    assert raised[list(found[:-1])].sum() < share * raised.sum()
    assert (np.diff(raised[list(found)]) <= 1e-6).all()


def test_prompts_that_first_tokens_do_not_tell_apart_are_refused(demo, sides):
    with pytest.raises(PromptError, match="hardly differ"):
        refusal_tokens(demo, sides[1][:15], sides[1][15:])
    with pytest.raises(ParameterError, match="share"):
        refusal_tokens(demo, *sides, share=0)
