import pytest
import torch

from lenssteer import edits
from lenssteer.errors import ParameterError, SteeringError
from lenssteer.models import Decoding, generate
from lenssteer.prompts import pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer, Where, together

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?"]
SITE, OTHER = Site(3, "resid_post"), Site(5, "resid_post")


@pytest.fixture(scope="module")
def vector(demo):
    return torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(scope="module")
def pair(vector):
    """An addition, and an ablation that would take some of it away again."""
    return Steerer({SITE: edits.add(vector)}), Steerer({SITE: edits.ablate(vector + 1)})


def test_shared_sites_are_refused_unless_told_otherwise(demo, vector, pair):
    with pytest.raises(SteeringError, match=r"resid_post\.3 would be edited"):
        together(*pair)
    tokens = pad(demo.encode(PROMPTS))
    apart = Steerer({OTHER: edits.add(vector)})
    with together(pair[0], apart).on(demo) as receipts:
        logits = demo.logits(tokens)
    with Steerer({SITE: edits.add(vector), OTHER: edits.add(vector)}).on(demo):
        assert torch.equal(demo.logits(tokens), logits)
    assert [list(receipt.sites) for receipt in receipts] == [[SITE], [OTHER]]


def test_chained_steerers_are_nested_blocks(demo, pair):
    tokens = pad(demo.encode(PROMPTS))
    logits = {}
    for order in (pair, pair[::-1]):
        with order[0].on(demo), order[1].on(demo):
            nested = demo.logits(tokens)
        with together(*order, conflict="chain").on(demo):
            assert torch.equal(demo.logits(tokens), nested)
        logits[order] = nested
    assert not torch.allclose(*logits.values())


def test_sums_add_changes_of_the_same_activation(demo, vector, pair):
    """Oracle: a torch hook with the closed form h + v - (r.h) r."""
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    unit = (vector + 1) / (vector + 1).norm()
    handle = demo.backend.model.model.layers[3].register_forward_hook(
        lambda m, a, out: out + vector - (out @ unit).unsqueeze(-1) * unit)
    by_hand = demo.logits(tokens)
    handle.remove()
    for order in (pair, pair[::-1]):
        with together(*order, conflict="sum").on(demo) as receipts:
            torch.testing.assert_close(demo.logits(tokens)[tokens.mask], by_hand[tokens.mask], atol=1e-5, rtol=0)
        added = receipts[0 if order is pair else 1].sites[SITE]
        assert added.edited == int(tokens.mask.sum())
        assert added.mean_displacement == pytest.approx(vector.norm().item(), rel=1e-4)


def test_sums_respect_each_steerers_own_tokens_and_gate(demo, vector):
    """One for the prompt, one for the answer, one behind a closed gate: the sum is the first two in turn."""
    prompt = Steerer({SITE: edits.add(vector)}, Where("prompt"))
    answer = Steerer({SITE: edits.add(-vector)}, Where("generated"))
    closed = Steerer({SITE: edits.add(9 * vector)}, gate=Condition(SITE, vector, 2.0))
    with prompt.on(demo), answer.on(demo):
        expected = generate(demo, PROMPTS, Decoding(8))
    for use_cache in (True, False):
        with together(prompt, answer, closed, conflict="sum").on(demo) as receipts:
            assert generate(demo, PROMPTS, Decoding(8, use_cache=use_cache)) == expected
        assert receipts[2].conditions[0].closed == len(PROMPTS)


def test_the_model_is_left_as_it_was(demo, pair):
    tokens = pad(demo.encode(PROMPTS))
    clean = demo.logits(tokens)
    for conflict in ("chain", "sum"):
        with pytest.raises(ZeroDivisionError), together(*pair, conflict=conflict).on(demo):
            raise ZeroDivisionError
        assert torch.equal(demo.logits(tokens), clean)
        with pytest.raises(SteeringError, match="ran no pass"), together(*pair, conflict=conflict).on(demo):
            pass


def test_bad_compositions_are_refused(pair):
    with pytest.raises(ParameterError):
        together()
    with pytest.raises(ParameterError, match="mix"):
        together(*pair, conflict="mix")
