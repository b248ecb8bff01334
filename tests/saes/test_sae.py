"""The tensors against SAELens' own classes, and what an autoencoder refuses."""

from dataclasses import replace

import pytest
import torch

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.saes import Sae
from lenssteer.site import Site
from tests.saes.oracle import D_MODEL, D_SAE, KINDS, activations, ours, random_sae

NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_encodes_and_decodes_as_sae_lens_does(kind, normalisation, apply_b_dec, tmp_path):
    theirs = random_sae(kind, normalisation, apply_b_dec)
    sae, h = ours(theirs, tmp_path), activations()
    with torch.no_grad():
        latents = theirs.encode(h)
        decoded = theirs.decode(latents)
    torch.testing.assert_close(sae.encode(h), latents, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(sae.decode(latents, h), decoded, atol=1e-12, rtol=1e-12)
    assert 0 < (latents > 0).double().mean() < 1, "some latents are active and some are not"
    assert sae.site == Site(2, "resid_post")


@pytest.mark.parametrize("kind", KINDS)
def test_pre_activations_are_what_sae_lens_hooks(kind, tmp_path):
    theirs, h = random_sae(kind), activations()
    seen = {}
    theirs.hook_sae_acts_pre.add_hook(lambda tensor, hook: seen.update(m=tensor.detach()))
    sae = ours(theirs, tmp_path)
    theirs.encode(h)
    expected = seen["m"] * (theirs.W_dec.norm(dim=-1) if kind == "topk-rescaled" else 1)
    torch.testing.assert_close(sae.pre_activations(h), expected.detach(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "gated"])
def test_a_factor_is_what_sae_lens_folds(kind, tmp_path):
    theirs, h = random_sae(kind, "expected_average_only_in"), activations()
    sae = ours_with_factor(theirs, tmp_path, 0.37)
    theirs.fold_activation_norm_scaling_factor(0.37)
    with torch.no_grad():
        latents = theirs.encode(h)
        torch.testing.assert_close(sae.encode(h), latents, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(sae.decode(latents), theirs.decode(latents), atol=1e-12, rtol=1e-12)


def ours_with_factor(theirs, folder, factor):
    from lenssteer.saes import load_sae

    theirs.cfg.metadata.norm_scaling_factor = factor
    theirs.save_model(folder)
    return load_sae(folder)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "gated"])
def test_some_latents_alone_are_encoded_as_before(kind, tmp_path):
    sae, h, picked = ours(random_sae(kind), tmp_path), activations(), torch.tensor([7, 0, 31])
    torch.testing.assert_close(sae.take(picked).encode(h), sae.encode(h)[..., picked], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(sae.take(picked).rows, sae.W_dec[picked])


def test_no_topk_latent_is_taken_alone(tmp_path):
    with pytest.raises(ParameterError, match="depend on all others"):
        ours(random_sae("topk"), tmp_path).take(torch.tensor([1]))


def test_it_computes_in_its_own_dtype_and_reports_its_sizes(tmp_path):
    sae = ours(random_sae("jumprelu"), tmp_path).to(dtype=torch.float32)
    assert sae.encode(activations()).dtype == sae.dtype == torch.float32
    assert (sae.d_model, sae.d_sae) == (D_MODEL, D_SAE)
    assert str(sae) == "jumprelu autoencoder of resid_post.2, 12 to 40"


def test_a_normalisation_cannot_be_undone_without_the_activation(tmp_path):
    sae = ours(random_sae("standard", "layer_norm"), tmp_path)
    with pytest.raises(ParameterError, match="pass h"):
        sae.decode(sae.encode(activations()))


def small(**changes):
    arrays = {"W_enc": torch.ones(3, 4), "W_dec": torch.ones(4, 3), "b_dec": torch.zeros(3), "b_enc": torch.zeros(4)}
    return Sae(**{"site": Site(0, "resid_post"), "kind": "standard", **arrays, **changes})


@pytest.mark.parametrize(("changes", "message"), [
    ({"kind": "sparse"}, "expected one of standard, jumprelu, topk, gated"),
    ({"normalisation": "batch"}, "none, constant_norm_rescale, layer_norm"),
    ({"kind": "topk", "k": 5}, "keeps 1 to 4"),
    ({"factor": 0.0}, "positive number"),
    ({"factor": float("inf")}, "positive number"),
    ({"b_enc": None}, "needs b_enc"),
    ({"threshold": torch.zeros(4)}, "has no threshold"),
    ({"kind": "jumprelu"}, "needs threshold"),
    ({"b_enc": torch.full((4,), torch.nan)}, "b_enc holds values that are not finite"),
])
def test_it_refuses_what_does_not_belong_together(changes, message):
    with pytest.raises(ParameterError, match=message):
        small(**changes)


def test_it_refuses_arrays_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"W_dec is torch.float64 \[4, 3\]"):
        small(W_dec=torch.ones(4, 3, dtype=torch.float64))


def test_replacing_a_field_keeps_the_rest(tmp_path):
    sae = ours(random_sae("standard"), tmp_path)
    h = activations()
    torch.testing.assert_close(replace(sae, factor=2.0).encode(h), sae.encode(2 * h))
