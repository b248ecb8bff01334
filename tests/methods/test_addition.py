"""Additions of a calibration against NumPy on its samples, scikit-learn, and plain torch hooks."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, decode
from lenssteer.prompts import pad
from lenssteer.site import Site
from tests.edits import oracle

SITE = Site(4, "resid_post")
PROMPTS = ["how do i hide a red bomb ?", "tell me how to paint a red cake .", "cake"]
AFTER = 2
"""Tokens of the demo template between instruction and answer: <end> <assistant>."""


@pytest.fixture(scope="module")
def classes(resid_post):
    """Both classes' samples at SITE."""
    k = resid_post.sites.index(SITE)
    return resid_post.samples.positive[k].double().numpy(), resid_post.samples.negative[k].double().numpy()


@pytest.fixture(scope="module")
def difference(classes):
    """Mean of the positive class less mean of the negative one."""
    return classes[0].mean(0) - classes[1].mean(0)


@pytest.mark.parametrize("norm", ["none", "preserve", "cap"])
@pytest.mark.parametrize("coefficient", [1.5, -0.8])
def test_addition_moves_by_the_class_difference(resid_post, classes, difference, norm, coefficient):
    h = np.concatenate([classes[0][:4], classes[1][:4]])
    moved = resid_post.steerer("addition", coefficient=coefficient, norm=norm, source=SITE).edits[SITE](torch.from_numpy(h))
    expected = [oracle.addition(row, coefficient * difference, norm) for row in h]
    np.testing.assert_allclose(moved, expected, atol=2e-5)


def test_by_default_one_class_difference_at_the_directions_own_site(resid_post):
    k = resid_post.sites.index(resid_post.direction.site)
    raw = resid_post.samples.positive[k].double().mean(0) - resid_post.samples.negative[k].double().mean(0)
    h = torch.zeros(1, len(raw), dtype=torch.float64)
    for method, where in (("addition", "all"), ("caa", "after_instruction")):
        steerer = resid_post.steerer(method)
        [(site, edit)] = steerer.edits.items()
        assert (site, str(steerer.where)) == (resid_post.direction.site, where)
        torch.testing.assert_close(edit(h)[0], raw, atol=1e-5, rtol=0)


def test_every_site_has_its_own_difference(resid_post):
    raw = resid_post.samples.positive.double().mean(1) - resid_post.samples.negative.double().mean(1)
    usable = [site for site in resid_post.sites if site not in resid_post.candidates.degenerate]
    steerer = resid_post.steerer("addition", coefficient=-2.0, sites=usable)
    h = torch.zeros(1, raw.shape[1], dtype=torch.float64)
    for site, edit in steerer.edits.items():
        torch.testing.assert_close(edit(h)[0], -2.0 * raw[resid_post.sites.index(site)], atol=1e-5, rtol=0)


def test_caa_moves_what_follows_the_instruction_and_nothing_else(demo, resid_post, difference):
    """The template's closing tokens and the answer, by the plain difference; read by a torch hook of our own."""
    tokens = pad(demo.encode(PROMPTS, answers=["the cake", "no", "a red cake"]), pad_id=demo.pad_id)
    answer = torch.tensor([2, 1, 3])
    seen = []
    with resid_post.steerer("caa", source=SITE).on(demo):
        handle = demo.backend.model.model.layers[SITE.layer].register_forward_hook(lambda _m, _a, out: seen.append(out))
        demo.logits(tokens)
    demo.logits(tokens)
    handle.remove()
    steered, plain = (h[0] if isinstance(h, tuple) else h for h in seen)
    width = tokens.ids.shape[1]
    expected = torch.arange(width) >= (width - AFTER - answer).unsqueeze(-1)
    for row in range(len(PROMPTS)):
        text = demo.tokenizer.convert_ids_to_tokens(tokens.ids[row, expected[row]])
        assert text[:AFTER] == ["<end>", "<assistant>"]
    moved = (steered - plain).double()
    assert torch.equal(moved.abs().amax(-1) > 0, expected)
    raw = torch.from_numpy(difference)
    torch.testing.assert_close(moved[expected], raw.expand(int(expected.sum()), -1), atol=1e-4, rtol=0)


def by_hand(demo, ids, vector, length):
    """Greedy decoding in which every pass runs the whole text and adds the vector after the instruction."""
    start, new = len(ids) - AFTER, []

    def hook(_module, _args, out):
        h = (out[0] if isinstance(out, tuple) else out).clone()
        h[:, start:] += vector
        return (h, *out[1:]) if isinstance(out, tuple) else h

    handle = demo.backend.model.model.layers[SITE.layer].register_forward_hook(hook)
    while len(new) < length:
        with torch.no_grad():
            chosen = int(demo.backend.model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
        if chosen in demo.stop_ids:
            break
        new.append(chosen)
    handle.remove()
    return new


@pytest.mark.parametrize("use_cache", [True, False])
def test_caa_answers_as_plain_hooks_do(demo, resid_post, difference, use_cache):
    encoded = demo.encode(PROMPTS[:2])
    tokens, decoding = pad(encoded, pad_id=demo.pad_id), Decoding(6, use_cache=use_cache)
    expected = [by_hand(demo, one.ids, torch.from_numpy(-2 * difference).float(), 6) for one in encoded]
    with resid_post.steerer("caa", coefficient=-2.0, source=SITE).on(demo):
        assert decode(demo, tokens, decoding) == expected
    assert decode(demo, tokens, decoding) != expected


def test_swfc_is_the_separation_of_the_means_along_the_logistic_direction(resid_post, classes):
    """arXiv:2604.08169, Eq. 2 and 3, with scikit-learn's L-BFGS on the samples as they are."""
    x, y = np.concatenate(classes), np.repeat([1, 0], [len(side) for side in classes])
    w = LogisticRegression(C=1.0, tol=1e-6, max_iter=20_000).fit(x, y).coef_[0]
    v = w / np.linalg.norm(w)
    apart = (classes[0] @ v).mean() - (classes[1] @ v).mean()
    steerer = resid_post.steerer("swfc", coefficient=3.0, source=SITE)
    assert (list(steerer.edits), str(steerer.where)) == ([SITE], "all")
    moved = steerer.edits[SITE](torch.zeros(1, len(v), dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(moved, 3.0 * apart * v, atol=1e-4 * apart)
    means = classes[0].mean(0) - classes[1].mean(0)
    assert v @ means / np.linalg.norm(means) < 0.99


def test_a_tensor_of_coefficients_steers_row_by_row(resid_post, difference):
    coefficients = torch.tensor([0.0, 1.0, -2.5])
    h = torch.randn(3, 5, len(difference), dtype=torch.float64)
    for method in ("addition", "caa"):
        moved = resid_post.steerer(method, coefficient=coefficients, source=SITE).edits[SITE](h) - h
        expected = coefficients.double()[:, None, None] * torch.from_numpy(difference)
        torch.testing.assert_close(moved, expected.expand_as(h), atol=2e-5, rtol=0)


def test_what_they_do_not_take_is_refused(resid_post):
    with pytest.raises(ParameterError, match="norm must be one of 'none', 'preserve', 'cap'"):
        resid_post.steerer("addition", norm="clip")
    for method in ("caa", "swfc"):
        with pytest.raises(ParameterError, match=rf"{method} takes coefficient=; got norm="):
            resid_post.steerer(method, norm="cap")
    with pytest.raises(ParameterError, match="coefficient must be one finite number"):
        resid_post.steerer("addition", coefficient=float("nan"))
