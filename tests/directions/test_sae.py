"""Latents as directions, and their statistics against scikit-learn and NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lenssteer.directions import SaeLatents, latent_direction, select_latents
from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.maths import Moments
from lenssteer.saes import Sae
from lenssteer.site import Site

D = 6


def planted(**changes):
    """Latent i of a standard autoencoder reads axis i above a threshold, latent i + 6 the same axis below it."""
    axes = torch.eye(D, dtype=torch.float64)
    arrays = {"W_enc": torch.cat([axes, -axes], 1), "W_dec": torch.cat([2 * axes, -3 * axes]),
              "b_enc": torch.full((2 * D,), -0.5, dtype=torch.float64), "b_dec": torch.zeros(D, dtype=torch.float64)}
    return Sae(**{"site": Site(3, "resid_post"), "kind": "standard", **arrays, **changes})


def classes(n=40, m=30, seed=0):
    """Activations that differ on axis 2; axis 5 is high everywhere. Rounded, so that scores tie."""
    draw = np.random.default_rng(seed)
    positive, negative = draw.normal(size=(n, D)), draw.normal(size=(m, D))
    positive[:, 2] += 1.5
    for side in (positive, negative):
        side[:, 5] += 9.0
    return torch.tensor(positive.round(1)), torch.tensor(negative.round(1))


def latents_in_numpy(h):
    h = h.numpy()
    return np.maximum(np.concatenate([h, -h], 1) - 0.5, 0)


@pytest.mark.parametrize("latent", range(2 * D))
def test_auroc_is_scikit_learns_with_ties(latent):
    positive, negative = classes()
    found = SaeLatents.of(planted(), positive, negative)
    scores = np.concatenate([latents_in_numpy(positive), latents_in_numpy(negative)])[:, latent]
    expected = roc_auc_score([1] * 40 + [0] * 30, scores)
    assert len(np.unique(scores)) < len(scores), "there are ties"
    assert found.auroc(torch.tensor([latent])).item() == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=8), st.lists(st.integers(-2, 2), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_auroc_counts_pairs(positive, negative):
    values = [torch.tensor([[float(x)] * D for x in side], dtype=torch.float64) for side in (positive, negative)]
    pairs = [(max(a - 0.5, 0), max(b - 0.5, 0)) for a in positive for b in negative]
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    found = SaeLatents.of(planted(), *values).auroc(torch.arange(D))
    assert found.tolist() == [pytest.approx(expected, abs=1e-12)] * D


@pytest.mark.parametrize("rule", ["mean_difference", "auroc"])
def test_the_planted_latent_comes_first_and_its_line_is_what_numpy_says(rule):
    positive, negative = classes()
    line = select_latents(planted(), positive, negative, rule)[0]
    p, n = latents_in_numpy(positive)[:, 2], latents_in_numpy(negative)[:, 2]
    difference = positive.numpy().mean(0) - negative.numpy().mean(0)
    expected = {"latent": 2, "mean_difference": p.mean() - n.mean(), "positive_mean": p.mean(), "negative_mean": n.mean(),
                "auroc": roc_auc_score([1] * 40 + [0] * 30, np.concatenate([p, n])),
                "frequency": np.concatenate([p > 0, n > 0]).mean(),
                "positive_active": (p > 0).mean(), "negative_active": (n > 0).mean(),
                "cosine": difference[2] / np.linalg.norm(difference)}
    assert set(line) == set(expected)
    assert {key: line[key] for key in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", ["mean_difference", "auroc"])
def test_lines_come_best_first_and_no_more_than_asked_for(rule):
    lines = select_latents(planted(), *classes(), rule, max_frequency=1.0)
    scores = [line[rule] for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert len(select_latents(planted(), *classes(), rule, top=3)) == 3


def test_dense_rare_and_dead_latents_are_left_out():
    positive, negative = classes()
    def kept(**limits):
        return {line["latent"] for line in select_latents(planted(), positive, negative, top=99, **limits)}

    assert 5 not in kept(), "active on every sample"
    assert 5 in kept(max_frequency=1.0)
    assert 11 not in kept(max_frequency=1.0), "active on none"
    frequency = np.concatenate([latents_in_numpy(positive), latents_in_numpy(negative)]) > 0
    shares = frequency.mean(0)
    assert kept(min_frequency=0.3, max_frequency=0.5) == {i for i in range(12) if 0.3 <= shares[i] <= 0.5}


def test_frequencies_are_counted_on_the_tokens_that_are_given():
    positive, negative = classes()
    tokens = torch.zeros(8, D, dtype=torch.float64)
    tokens[:6, 2] = 1.0
    found = SaeLatents.of(planted(), positive, negative, tokens)
    assert found.frequency.tolist() == [0.75 if i == 2 else 0.0 for i in range(12)]
    lines = select_latents(planted(), positive, negative, tokens=tokens, min_frequency=0.5)
    assert [line["latent"] for line in lines] == [2]


def test_chunks_change_nothing(monkeypatch):
    from lenssteer.directions import sae

    whole = select_latents(planted(), *classes(), "auroc")
    monkeypatch.setattr(sae, "CHUNK", 7)
    assert select_latents(planted(), *classes(), "auroc") == whole


def test_swapped_classes_rank_the_other_way():
    positive, negative = classes()
    forth = SaeLatents.of(planted(), positive, negative)
    back = SaeLatents.of(planted(), negative, positive)
    picked = torch.arange(12)
    torch.testing.assert_close(forth.auroc(picked), 1 - back.auroc(picked))
    torch.testing.assert_close(forth.mean_difference, -back.mean_difference)


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_a_latent_is_a_direction_with_its_own_sign_and_length(factor):
    positive, negative = (Moments.of(side) for side in classes())
    up, down = (latent_direction(planted(factor=factor), i, positive, negative) for i in (2, 8))
    assert (up.length, down.length) == (2 / factor, 3 / factor)
    assert (up.positive, up.negative) == pytest.approx((positive.mean[2].item(), negative.mean[2].item()))
    assert (down.positive, down.negative) == pytest.approx((-positive.mean[2].item(), -negative.mean[2].item()))
    torch.testing.assert_close(down.raw, -torch.eye(D, dtype=torch.float64)[2] * 3 / factor)
    assert up.site == Site(3, "resid_post")


def test_a_unit_of_the_latent_writes_the_raw_direction():
    """Also where topk counts latents in units of normalised rows."""
    sae = planted(kind="topk", k=3, rescale_by_decoder_norm=True)
    h = torch.full((1, D), 0.1, dtype=torch.float64)
    f = sae.encode(h)
    more = f.clone()
    more[0, 8] += 1
    moments = Moments.of(classes()[0])
    torch.testing.assert_close(sae.decode(more)[0] - sae.decode(f)[0], latent_direction(sae, 8, moments, moments).raw)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"rule": "loudest"}, ParameterError, "mean_difference, auroc"),
    ({"top": 0}, ParameterError, "at least 1"),
    ({"min_frequency": 0.5, "max_frequency": 0.4}, ParameterError, "0.5, 0.4"),
    ({"max_frequency": 1.1}, ParameterError, "<= 1"),
    ({"min_frequency": 0.98, "max_frequency": 0.99}, DirectionError, "no latent is active on 0.98 to 0.99"),
])
def test_a_selection_refuses_what_it_cannot_mean(arguments, error, message):
    with pytest.raises(error, match=message):
        select_latents(planted(), *classes(), **arguments)


def test_samples_and_moments_must_fit():
    positive, negative = classes()
    with pytest.raises(ParameterError, match="at least one a class"):
        select_latents(planted(), positive, negative[:0])
    with pytest.raises(ShapeError, match="width 6"):
        select_latents(planted(), positive[:, :5], negative[:, :5])
    moments, stacked = Moments.of(positive), Moments.of(torch.stack([positive, positive]))
    with pytest.raises(ShapeError, match=r"moments of resid_post\.3 alone"):
        latent_direction(planted(), 2, moments, stacked)
    with pytest.raises(ParameterError, match="0 to 11"):
        latent_direction(planted(), 12, moments, moments)
    silent = planted(W_dec=torch.zeros(12, 6, dtype=torch.float64))
    with pytest.raises(DirectionError, match="writes nothing"):
        latent_direction(silent, 2, moments, moments)
