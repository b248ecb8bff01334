"""The three backends agree, unsteered and under every method: on logits, on greedy tokens, in any batch."""

import pytest
import torch

from lenssteer.models import Decoding, decode, generate
from lenssteer.prompts import Columns, pad
from lenssteer.site import STREAMS, Site
from tests.conftest import BACKENDS

PROMPTS = ["how do i paint a red cake ?", "tell me how to hide a bomb .", "kite", "please help me fix a big blue table now ."]
METHODS = {
    "unsteered": None,
    "selective": {"degrees": 200.0},
    "standard-angular": {"degrees": 150.0},
    "adaptive-angular": {"degrees": 150.0},
    "ablation": {},
    "addition": {"coefficient": -1.0},
}


@pytest.fixture(scope="module")
def steered(norm_out, resid_post):
    """Run something under a method on a model."""
    from contextlib import nullcontext

    def on(method, lens):
        if METHODS[method] is None:
            return nullcontext()
        calibration = resid_post if method in ("addition", "ablation") else norm_out
        sites = {"selective": [site for site in norm_out.sites if site.layer >= 2]}.get(method)
        return calibration.steerer(method, **METHODS[method], sites=sites).on(lens)

    return on


@pytest.mark.parametrize("method", METHODS)
def test_logits_agree_to_1e_4_also_when_left_padded(demo_models, steered, method):
    logits = {}
    for name, lens in demo_models.items():
        tokens = pad(lens.encode(PROMPTS), pad_id=lens.pad_id)
        with steered(method, lens):
            logits[name] = lens.logits(tokens)[tokens.mask]
    for name in BACKENDS:
        torch.testing.assert_close(logits[name], logits["hf"], atol=1e-4, rtol=0, msg=f"{method} on {name}")


@pytest.mark.parametrize("method", METHODS)
def test_greedy_tokens_agree_with_and_without_cache_in_a_batch_and_alone(demo_models, steered, method):
    answers = {}
    for name, lens in demo_models.items():
        for use_cache in (True, False):
            for batch_size in (4, 1):
                with steered(method, lens):
                    answers[name, use_cache, batch_size] = generate(
                        lens, PROMPTS, Decoding(12, use_cache=use_cache), batch_size=batch_size)
    reference = answers["hf", True, 1]
    assert all(answer == reference for answer in answers.values()), {k: a for k, a in answers.items() if a != reference}


@pytest.mark.parametrize("method", [m for m in METHODS if m != "unsteered"])
def test_every_method_does_something(demo, steered, method):
    tokens = pad(demo.encode(PROMPTS))
    clean = demo.logits(tokens)[tokens.mask]
    with steered(method, demo):
        assert (demo.logits(tokens)[tokens.mask] - clean).abs().max() > 1e-2


@pytest.mark.parametrize("stream", STREAMS)
def test_an_edit_at_every_stream_means_the_same_on_every_backend(demo_models, stream):
    """Among them resid_mid, which the Bridge's own alias would edit on the MLP branch only."""
    from lenssteer import edits
    from lenssteer.steering import Steerer

    logits = {}
    for name, lens in demo_models.items():
        v = torch.randn(lens.card.d_model, generator=torch.Generator().manual_seed(1))
        tokens = pad(lens.encode(PROMPTS), pad_id=lens.pad_id)
        with Steerer({Site(4, stream): edits.add(v, 2.0)}).on(lens):
            logits[name] = lens.logits(tokens)[tokens.mask]
    for name in BACKENDS:
        torch.testing.assert_close(logits[name], logits["hf"], atol=1e-4, rtol=0, msg=f"{stream} on {name}")


def test_an_edit_at_resid_mid_reaches_the_skip_connection(demo):
    """resid_mid moved by v and mlp_out moved by -(the MLP's change): resid_post must have moved by v + MLP change."""
    from lenssteer import edits
    from lenssteer.capture import ReadAt, activations
    from lenssteer.steering import Steerer

    v = torch.randn(demo.card.d_model)
    sites = [Site(4, "mlp_out"), Site(4, "resid_post")]
    encoded = demo.encode(PROMPTS[:1])
    ((_, clean),) = activations(demo, encoded, sites, ReadAt())
    with Steerer({Site(4, "resid_mid"): edits.add(v)}).on(demo):
        ((_, moved),) = activations(demo, encoded, sites, ReadAt())
    torch.testing.assert_close((moved[1] - clean[1])[0], v + (moved[0] - clean[0])[0], atol=1e-4, rtol=0)


def test_our_loop_equals_generate_of_transformers(demo):
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    ours = decode(demo, tokens, Decoding(20))
    theirs = demo.backend.model.generate(tokens.ids, attention_mask=tokens.mask.long(), max_new_tokens=20,
                                         do_sample=False, pad_token_id=demo.pad_id)
    for mine, row in zip(ours, theirs[:, tokens.ids.shape[1]:], strict=True):
        assert mine == row[: len(mine)].tolist()
        assert len(mine) == 20 or int(row[len(mine)]) in demo.stop_ids


def test_sampling_is_seeded_and_does_not_depend_on_the_batch(demo):
    decoding = Decoding(12, temperature=1.5, top_p=0.95, seed=3)
    together, alone = (generate(demo, PROMPTS, decoding, batch_size=size) for size in (4, 1))
    assert together == alone
    assert generate(demo, PROMPTS, Decoding(12, temperature=1.5, seed=4)) != together


def test_top_p_keeps_the_most_likely_tokens_only():
    from lenssteer.models.decoding import _choose

    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]])).expand(200, 3)
    draws = [torch.Generator().manual_seed(i) for i in range(200)]
    assert set(_choose(logits, Decoding(1, temperature=1.0, top_p=0.5), draws).tolist()) == {0}
    assert set(_choose(logits, Decoding(1, temperature=1.0, top_p=0.8), draws).tolist()) == {0, 1}
    assert set(_choose(logits, Decoding(1, temperature=1.0), draws).tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("backend", "dtype"), [(backend, "bfloat16") for backend in BACKENDS]
                         + [(backend, "float64") for backend in BACKENDS if backend != "bridge"])
def test_other_dtypes_stay_what_they_are(backend, dtype):
    """An edit that returned float32 would crash the Bridge on a bfloat16 model.

    The Bridge itself gives nan for padded batches in float64, which the self-check finds and refuses.
    """
    from lenssteer import edits
    from lenssteer.models import load_model
    from lenssteer.steering import Steerer

    lens = load_model("demo", backend=backend, dtype=dtype)
    v = torch.randn(lens.card.d_model)
    with Steerer({Site(2, s): edits.add(v) for s in STREAMS}).on(lens) as receipt:
        logits = lens.logits(pad(lens.encode(PROMPTS), pad_id=lens.pad_id))
    assert str(logits.dtype) == f"torch.{dtype}"
    assert receipt.edited > 0


def test_the_last_column_is_all_that_is_computed_when_only_it_is_kept(demo_models):
    for lens in demo_models.values():
        tokens = pad(lens.encode(PROMPTS), pad_id=lens.pad_id)
        last = lens.run(tokens.ids, Columns(0, tokens.mask, tokens))
        torch.testing.assert_close(last[:, 0], lens.logits(tokens)[:, -1], atol=1e-5, rtol=0)
