"""Ablation of a calibration against Arditi's three hooks a block, written out in plain torch on the transformers model."""

from contextlib import contextmanager

import pytest
import torch

from lenssteer.errors import DirectionError
from lenssteer.models import Decoding, generate
from lenssteer.prompts import pad
from lenssteer.site import Site

PROMPTS = ["how do i hide a red bomb ?", "tell me how to paint a red cake .", "cake"]


@pytest.fixture(scope="module")
def direction(resid_post):
    """The unit difference in means at the site the calibration names, from its samples."""
    k = resid_post.sites.index(resid_post.direction.site)
    raw = resid_post.samples.positive[k].double().mean(0) - resid_post.samples.negative[k].double().mean(0)
    return (raw / raw.norm()).float()


@contextmanager
def directional_ablation(model, r):
    """x - (x.r) r on the input, the attention output and the MLP output of every block, at every position."""
    def without(x):
        return x - (x @ r).unsqueeze(-1) * r

    def on_input(_module, args, kwargs):
        return ((without(args[0]), *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": without(kwargs["hidden_states"])})

    def on_output(_module, _args, output):
        return (without(output[0]), *output[1:]) if isinstance(output, tuple) else without(output)

    handles = []
    for block in model.model.layers:
        handles += [block.register_forward_pre_hook(on_input, with_kwargs=True),
                    block.self_attn.register_forward_hook(on_output), block.mlp.register_forward_hook(on_output)]
    yield
    for handle in handles:
        handle.remove()


@contextmanager
def block_outputs(demo):
    """What leaves every block, after any edit that was attached before."""
    seen = {}
    handles = [block.register_forward_hook(lambda _m, _a, out, i=i: seen.__setitem__(i, out[0] if isinstance(out, tuple) else out))
               for i, block in enumerate(demo.backend.model.model.layers)]
    yield seen
    for handle in handles:
        handle.remove()


def test_at_every_write_it_is_directional_ablation(demo, resid_post, direction):
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    plain = demo.logits(tokens)[tokens.mask]
    with directional_ablation(demo.backend.model, direction):
        expected = demo.logits(tokens)[tokens.mask]
        answers = generate(demo, PROMPTS, Decoding(12))
    steerer = resid_post.steerer("ablation", sites="every_write")
    assert len(steerer.edits) == 3 * demo.card.n_layers
    with steerer.on(demo) as receipt:
        torch.testing.assert_close(demo.logits(tokens)[tokens.mask], expected, atol=1e-4, rtol=0)
        assert generate(demo, PROMPTS, Decoding(12)) == answers
    assert (expected - plain).abs().max() > 1
    assert answers[0] != generate(demo, PROMPTS[:1], Decoding(12))[0]
    assert all(site.selected == site.seen for site in receipt.sites.values())


def test_by_default_every_captured_site_loses_the_component(demo, resid_post, direction):
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    with resid_post.steerer("ablation").on(demo), block_outputs(demo) as seen:
        demo.logits(tokens)
    assert len(seen) == len(resid_post.sites)
    for h in seen.values():
        assert (h[tokens.mask] @ direction).abs().max() < 1e-5


def test_affine_ablation_keeps_the_component_of_the_negative_mean_at_each_site(demo, resid_post, direction):
    """Marshall et al.: the component becomes that of the negative class, and nothing else of the activation changes."""
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    steerer = resid_post.steerer("affine-ablation")
    kept = resid_post.samples.negative.double().mean(1) @ direction.double()
    assert kept.std() > 0.1
    with steerer.on(demo), block_outputs(demo) as seen:
        demo.logits(tokens)
    h = torch.randn(4, demo.card.d_model, dtype=torch.float64)
    for k, site in enumerate(resid_post.sites):
        found = seen[site.layer][tokens.mask].double() @ direction.double()
        torch.testing.assert_close(found, kept[k].expand_as(found), atol=1e-4, rtol=1e-5)
        r = direction.double()
        torch.testing.assert_close(steerer.edits[site](h), h - torch.outer(h @ r - kept[k], r), atol=1e-5, rtol=0)


def test_the_direction_is_that_of_the_source(resid_post):
    """One direction at every site: the source's, not each site's own."""
    site = Site(2, "resid_post")
    k = resid_post.sites.index(site)
    raw = resid_post.samples.positive[k].double().mean(0) - resid_post.samples.negative[k].double().mean(0)
    for method in ("ablation", "affine-ablation"):
        edits = resid_post.steerer(method, source="resid_post.2").edits
        assert len(edits) == len(resid_post.sites)
        for edit in edits.values():
            torch.testing.assert_close(edit.read[0], raw / raw.norm(), atol=1e-6, rtol=0)


def test_a_mean_that_was_not_captured_is_asked_for(resid_post):
    with pytest.raises(DirectionError, match=r"resid_pre\.0 was not captured"):
        resid_post.steerer("affine-ablation", sites="every_write")
