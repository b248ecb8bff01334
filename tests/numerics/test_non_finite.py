"""Activations that are not finite are counted, and stop what runs on them, with the site named."""

from contextlib import contextmanager

import pytest
import torch

from lenssteer import edits
from lenssteer.capture import capture_moments
from lenssteer.capture.grid import capture_grid
from lenssteer.errors import SteeringError
from lenssteer.evals import Reference
from lenssteer.models import Decoding, generate, load_model, stream
from lenssteer.prompts import ContrastSet, pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Rowwise, Steerer, together
from lenssteer.sweeps import Grid, run_sweep

PROMPTS = ["how do i hide a red bomb ?", "tell me how to paint a red cake ."]
LINE = torch.ones(128)


@contextmanager
def overflowing(lens, layer, value=float("inf"), row=-1):
    """One entry of one row after a block, as a model in float16 might make it."""
    def spoil(_module, _args, output):
        h = (output[0] if isinstance(output, tuple) else output).clone()
        h[row, -1, 0] = value
        return (h, *output[1:]) if isinstance(output, tuple) else h

    handle = lens.backend.blocks[layer].register_forward_hook(spoil)
    try:
        yield
    finally:
        handle.remove()


def at(site, **options):
    return Steerer({Site.parse(site): edits.add(LINE)}, **options)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_capture_names_the_first_site_and_counts_prompts(demo, value):
    contrast, sites = ContrastSet(tuple(PROMPTS[:1]), tuple(PROMPTS[1:])), [Site(k, "resid_post") for k in (6, 2, 4)]
    with overflowing(demo, 3, value):
        for capture in (capture_moments, capture_grid):
            with pytest.raises(SteeringError, match=r"at resid_post\.4 are not finite in 1 of 2 prompts"):
                capture(demo, contrast, sites)
        with pytest.raises(SteeringError, match=r"at resid_post\.4 are not finite"), at("resid_post.1").on(demo):
            capture_moments(demo, contrast, sites)
        capture_moments(demo, contrast, [Site(2, "resid_post")])


def steered(lens, steerer, decoding=None):
    with steerer.on(lens):
        return generate(lens, PROMPTS, decoding or Decoding(4))


def test_an_edit_after_the_overflow_counts_it(demo):
    with overflowing(demo, 3), pytest.raises(SteeringError, match=r"non-finite at resid_post\.5 in \d+ tokens"):
        steered(demo, at("resid_post.5"))


def test_an_edit_before_the_overflow_is_named_too(demo):
    """The edited activations were finite; what the model made of them is not."""
    both = together(at("resid_post.1"), at("ln1_out.2"))
    with overflowing(demo, 3):
        for steerer in (both, Rowwise(((at("resid_post.1"), 1), (at("ln1_out.2"), 1)))):
            with pytest.raises(SteeringError, match=r"in 1 of 2 rows, with hooks at resid_post\.1, ln1_out\.2;"):
                steered(demo, steerer)


@pytest.mark.parametrize("decoding", [Decoding(4), Decoding(4, temperature=1.0), Decoding(4, use_cache=False)])
def test_an_unsteered_answer_is_refused_as_well(demo, decoding):
    with overflowing(demo, 3):
        with pytest.raises(SteeringError, match="in 1 of 2 rows, without any hook"):
            generate(demo, PROMPTS, decoding)
        with pytest.raises(SteeringError, match="without any hook"):
            list(stream(demo, PROMPTS, decoding))


def test_a_gate_that_could_not_judge_says_so(demo):
    gated = at("resid_post.5", gate=Condition(Site(4, "resid_post"), LINE, 0.1)).at("generated")
    with overflowing(demo, 3), pytest.raises(SteeringError, match=r"gate read .* not finite: cosine at resid_post\.4"):
        steered(demo, gated)
    with gated.on(demo) as receipt:
        generate(demo, PROMPTS, Decoding(4))
    [condition] = receipt.conditions
    assert condition.non_finite == 0
    assert condition.opened + condition.closed == 2


def test_a_gate_on_tokens_does_not_count_padding(demo):
    gated = at("resid_post.5", gate=Condition(Site(4, "resid_post"), LINE, -2.0, scope="token"))
    texts = [PROMPTS[0], PROMPTS[0] + " " + PROMPTS[1]]
    with gated.on(demo) as receipt:
        generate(demo, texts, Decoding(1))
    [condition] = receipt.conditions
    assert condition.non_finite == 0
    assert condition.opened == sum(len(one.ids) for one in demo.encode(texts))


def test_a_divergence_is_refused(demo):
    reference = Reference.of(demo, PROMPTS, tokens=3)
    huge = Steerer({Site.parse("resid_post.3"): edits.add(LINE, 1e38)})
    with pytest.raises(SteeringError, match=r"non-finite at resid_post\.3|hooks at resid_post\.3"):
        reference.divergence(huge)
    assert reference.divergence(at("resid_post.3")).mean < 100
    with overflowing(demo, 3), pytest.raises(SteeringError, match="without any hook"):
        Reference.of(demo, PROMPTS, tokens=1)


def test_a_sweep_gives_the_row_its_error_and_goes_on(demo, resid_post, tmp_path):
    grid = Grid("addition", (-1.0, 1e38, 0.5), settings={"norm": "none"}, sources=("resid_post.3",), decoding=Decoding(3))
    rows = run_sweep(demo, resid_post, grid, PROMPTS, tmp_path / "run", lambda _p, a: {"n": [len(x) for x in a]},
                     measure="length", keep_answers=True)
    assert [row.error is None for row in rows] == [True, True, False, True]
    assert "resid_post.3" in rows[2].error
    for row in (rows[1], rows[3]):
        with resid_post.steerer("addition", coefficient=row.amount, source="resid_post.3").on(demo):
            assert row.answers == generate(demo, PROMPTS, Decoding(3))


def test_float16_overflows_with_its_site(demo):
    half = load_model("demo", backend="hf", dtype="float16")
    tall = torch.zeros(128)
    tall[0] = 7e4
    with pytest.raises(SteeringError, match=r"non-finite at resid_post\.2 in \d+ tokens.*float32 or bfloat16"):
        steered(half, Steerer({Site.parse("resid_post.2"): edits.add(tall)}))
    steered(demo, Steerer({Site.parse("resid_post.2"): edits.add(tall)}))


def test_padding_that_is_not_finite_is_nobodys_loss(demo):
    """At the last block nothing reads it any more: the left padding of the shorter prompt, before the edit there."""
    tokens = pad(demo.encode([PROMPTS[0], PROMPTS[0] + " " + PROMPTS[1]]))
    assert not tokens.mask[0, 0]

    def spoil(_module, _args, output):
        h = (output[0] if isinstance(output, tuple) else output).clone()
        h[0, 0] = float("nan")
        return (h, *output[1:]) if isinstance(output, tuple) else h

    handle = demo.backend.blocks[7].register_forward_hook(spoil)
    try:
        with at("resid_post.7").on(demo) as receipt:
            spoiled = demo.logits(tokens)
    finally:
        handle.remove()
    assert receipt.sites[Site(7, "resid_post")].non_finite == 0
    with at("resid_post.7").on(demo):
        assert torch.equal(demo.logits(tokens)[tokens.mask], spoiled[tokens.mask])
