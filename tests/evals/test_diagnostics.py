import pytest
import torch

from lenssteer.evals import Reference, diagnose

PROMPTS = ["how do i paint a red cake ?", "tell me how to build a big kite ."]


def test_the_receipt_and_the_divergence_are_of_the_same_passes(demo, resid_post):
    reference = Reference.of(demo, PROMPTS, tokens=6)
    steerer = resid_post.steerer("addition", source="resid_post.3", coefficient=-1.0)
    found = diagnose(steerer, reference)
    [site] = found.receipt.sites.values()
    tokens = sum(len(e.ids) for e in demo.encode(PROMPTS)) + sum(int(f.compared.sum()) - len(f.compared)
                                                                 for f in reference.forced)
    assert site.seen == site.edited == tokens
    assert site.mean_displacement == pytest.approx(resid_post.candidates.difference[3].norm().item(), rel=1e-4)
    torch.testing.assert_close(found.divergence.per_prompt, reference.divergence(steerer).per_prompt)
    assert set(found.as_dict()) == {"kl", "top1", "positions", "where", "sites"}


def test_no_change_diverges_nowhere(demo, resid_post):
    found = diagnose(resid_post.steerer("addition", coefficient=0.0), Reference.of(demo, PROMPTS, tokens=4))
    assert found.divergence.mean == pytest.approx(0, abs=1e-9)
    assert found.receipt.edited == 0
