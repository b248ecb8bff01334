"""Edits of latents against SAELens' own encoder and decoder, in float64."""

import json

import pytest
import torch

from lenssteer import edits
from lenssteer.edits import LowRankEdit, SaeEdit
from lenssteer.errors import ParameterError, ShapeError
from tests.saes.oracle import D_MODEL, D_SAE, KINDS, activations, ours, random_sae

NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")
LATENTS = [4, 17, 33]
EXACT = {"atol": 1e-10, "rtol": 1e-10}
OPERATIONS = {
    "ablate": (edits.ablate_latent, (), lambda f: 0 * f),
    "halve": (edits.scale_latent, (0.5,), lambda f: 0.5 * f),
    "negate": (edits.scale_latent, ([-2.0, 3.0, 0.0],), lambda f: f * f.new_tensor([-2.0, 3.0, 0.0])),
    "clamp": (edits.clamp_latent, ([1.7, 0.0, -0.4],), lambda f: f.new_tensor([1.7, 0.0, -0.4]).expand_as(f)),
    "clamp-zero": (edits.clamp_latent, (0.0,), lambda f: 0 * f),
}


def dense(theirs, h, change):
    """h + decode(f') - decode(f), where only `LATENTS` differ; SAELens forgets norms after each decode."""
    with torch.no_grad():
        f = theirs.encode(h)
        before = theirs.decode(f)
        new = f.clone()
        new[..., LATENTS] = change(f[..., LATENTS]).to(f)
        theirs.encode(h)
        return h + theirs.decode(new) - before


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_changes_what_sae_lens_decodes_and_keeps_the_error(kind, normalisation, apply_b_dec, operation, tmp_path):
    constructor, arguments, change = OPERATIONS[operation]
    theirs, h = random_sae(kind, normalisation, apply_b_dec), activations(2, 4, 50)
    edit = constructor(ours(theirs, tmp_path), LATENTS, *arguments)
    low = kind in ("standard", "jumprelu", "gated") and normalisation == "none"
    assert isinstance(edit, LowRankEdit if low else SaeEdit)
    expected = dense(theirs, h, change)
    assert not torch.equal(expected, h)
    torch.testing.assert_close(edit(h), expected, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_clamping_active_latents_only(kind, tmp_path):
    theirs, h = random_sae(kind), activations(2, 4, 50)
    edit = edits.clamp_latent(ours(theirs, tmp_path), LATENTS, 2.5, only_active=True)
    torch.testing.assert_close(edit(h), dense(theirs, h, lambda f: 2.5 * (f > 0)), **EXACT)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "gated"])
def test_a_factor_of_the_input_is_undone(kind, tmp_path):
    from lenssteer.saes import load_sae

    theirs, h = random_sae(kind, "expected_average_only_in", norm_scaling_factor=0.37), activations(2, 4, 50)
    theirs.save_model(tmp_path)
    edit = edits.clamp_latent(load_sae(tmp_path), LATENTS, 1.3)
    theirs.fold_activation_norm_scaling_factor(0.37)
    assert isinstance(edit, LowRankEdit)
    torch.testing.assert_close(edit(h), dense(theirs, h, lambda f: torch.full_like(f, 1.3)), **EXACT)


@pytest.mark.parametrize("only_active", [True, False])
@pytest.mark.parametrize("kind", ["standard", "jumprelu", "gated"])
def test_the_low_rank_form_is_the_full_form(kind, only_active, tmp_path):
    sae, h = ours(random_sae(kind), tmp_path), activations(5, 300)
    latents = torch.arange(D_SAE)
    gain, offset = torch.linspace(-3, 1, D_SAE).double(), torch.linspace(2, -2, D_SAE).double()
    low = edits.clamp_latent(sae, list(range(D_SAE)), (offset + 0.1).tolist(), only_active=only_active)
    full = SaeEdit(sae, latents, -torch.ones(D_SAE).double(), offset + 0.1, only_active)
    torch.testing.assert_close(low(h), full(h), **EXACT)
    low = edits.scale_latent(sae, list(range(D_SAE)), (gain + 1).tolist())
    torch.testing.assert_close(low(h), SaeEdit(sae, latents, gain, 0 * offset)(h), **EXACT)


def test_ranks_are_one_a_latent_and_one_for_its_value(tmp_path):
    sae = ours(random_sae("standard"), tmp_path)
    assert edits.ablate_latent(sae, LATENTS).rank == 3
    assert edits.clamp_latent(sae, 4, 1.0).rank == 2
    assert edits.clamp_latent(sae, 4, 0.0).rank == edits.clamp_latent(sae, 4, 1.0, only_active=True).rank == 1


def test_only_the_edited_latents_are_encoded_unless_it_is_topk(tmp_path):
    edit = edits.scale_latent(ours(random_sae("jumprelu", "layer_norm"), tmp_path / "a"), LATENTS, 2.0)
    assert edit.sae.W_enc.shape == (D_MODEL, 3)
    assert edits.scale_latent(ours(random_sae("topk"), tmp_path / "b"), LATENTS, 2.0).sae.d_sae == D_SAE


@pytest.mark.parametrize("kind", ["jumprelu", "topk"])
def test_silent_latents_leave_a_token_bit_identical(kind, tmp_path):
    sae, h = ours(random_sae(kind), tmp_path), activations(2, 400)
    silent = sae.encode(h)[:, 4] == 0
    new = edits.scale_latent(sae, 4, 7.0)(h)
    assert 0 < silent.sum() < len(h)
    assert torch.equal(new[silent], h[silent])
    assert (new[~silent] != h[~silent]).any(-1).all()
    assert torch.equal(edits.scale_latent(sae, LATENTS, 1.0)(h), h), "factor 1 is the identity"


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 2, 5)])
@pytest.mark.parametrize("kind", ["gated", "topk"])
def test_rows_get_their_own_amounts(kind, shape, tmp_path):
    sae, amounts = ours(random_sae(kind), tmp_path), torch.tensor([0.0, 1.5, -2.0])
    h = activations(3, *shape)
    for constructor in (edits.scale_latent, edits.clamp_latent):
        whole = constructor(sae, LATENTS, amounts)
        assert whole.rows == 3
        for row in range(3):
            alone = constructor(sae, LATENTS, amounts[row].item())
            torch.testing.assert_close(whole(h)[row], alone(h[row]), **EXACT)
        taken = whole.take(torch.tensor([2, 0]))
        torch.testing.assert_close(taken(h[[2, 0]]), whole(h)[[2, 0]], **EXACT)


@pytest.mark.parametrize("kind", ["gated", "topk"])
def test_scaling_an_edit_multiplies_its_change(kind, tmp_path):
    edit, h = edits.clamp_latent(ours(random_sae(kind), tmp_path), LATENTS, 2.0), activations(3, 3, 5)
    assert torch.equal(edit.scaled(0)(h), h)
    torch.testing.assert_close(edit.scaled(0.25)(h), h + 0.25 * (edit(h) - h), **EXACT)
    rows = torch.tensor([1.0, -1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(edit.scaled(rows)(h), h + rows[:, None, None] * (edit(h) - h), **EXACT)


@pytest.mark.parametrize("kind", ["topk", "topk-rescaled", "jumprelu"])
def test_it_survives_json_and_tensors(kind, tmp_path):
    normalisation = "layer_norm" if kind == "jumprelu" else "none"
    edit = edits.clamp_latent(ours(random_sae(kind, normalisation), tmp_path), LATENTS, 2.0, only_active=True)
    again = SaeEdit.from_tensors(edit.tensors(), json.loads(json.dumps(edit.options())))
    h = activations()
    assert edit.kind == again.kind == "sae"
    assert torch.equal(again(h), edit(h))
    assert again.sae.site == edit.sae.site


def test_a_steerer_with_a_topk_edit_saves_and_steers(demo, tmp_path):
    from lenssteer.models import Decoding, generate
    from lenssteer.steering import Steerer

    sae = ours(random_sae("topk", d_model=128, hook="blocks.3.hook_resid_post", dtype="float32"), tmp_path / "sae")
    steerer = Steerer({sae.site: edits.clamp_latent(sae, LATENTS, torch.tensor([0.0, 30.0]))}, card=demo.card)
    prompts = ["how do i hide a red bomb ?", "tell me how to paint a red cake ."]
    with steerer.on(demo) as receipt:
        steered = generate(demo, prompts, Decoding(6))
    with Steerer.load(steerer.save(tmp_path / "steerer")).on(demo):
        assert generate(demo, prompts, Decoding(6)) == steered
    assert receipt.edited > 0
    assert steered[1] != generate(demo, prompts, Decoding(6))[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["jumprelu", "topk"])
def test_it_computes_in_float32_and_gives_back_the_dtype(kind, dtype, tmp_path):
    sae, h = ours(random_sae(kind), tmp_path), activations().to(dtype)
    edit = edits.clamp_latent(sae, 4, 1.0)
    new = edit(h)
    assert (new.dtype, new.shape) == (dtype, h.shape)
    expected = h.double() + (1.0 - sae.encode(h.double())[..., 4:5]) * sae.W_dec[4]
    atol = (8 if dtype == torch.float32 else 1) * torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(new.double(), expected, atol=atol, rtol=0)


@pytest.mark.parametrize(("latent", "amount", "message"), [
    (D_SAE, 1.0, "from 0 to 39"), (-1, 1.0, "from 0 to 39"), ([3, 3], 1.0, "different latents"), ([], 1.0, "at least one"),
    ([1, 2], [1.0], "one for each of 2 latents"), ([1, 2], [1.0, 2.0, 3.0], "one for each of 2"),
    (1, float("nan"), "finite"), (1, torch.tensor([1.0, torch.inf]), "finite"),
])
def test_wrong_latents_and_amounts_are_refused(latent, amount, message, tmp_path):
    sae = ours(random_sae("standard"), tmp_path)
    for constructor in (edits.scale_latent, edits.clamp_latent):
        with pytest.raises(ParameterError, match=message):
            constructor(sae, latent, amount)


def test_an_edit_refuses_what_does_not_fit(tmp_path):
    edit = edits.clamp_latent(ours(random_sae("topk"), tmp_path), 4, torch.tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match="d_model 12 and 2 rows"):
        edit(torch.ones(3, 5, D_MODEL))
    with pytest.raises(ShapeError, match="d_model 12"):
        edit(torch.ones(2, 5, D_MODEL + 1))
    with pytest.raises(ShapeError, match="row 2 was asked for"):
        edit.take(torch.tensor([0, 2]))
    with pytest.raises(ParameterError, match="same for every row"):
        edits.ablate_latent(edit.sae, 4).take(torch.tensor([0]))
    with pytest.raises(ParameterError, match="strength must be one finite number"):
        edit.scaled(float("inf"))
    with pytest.raises(ShapeError, match="one a latent"):
        SaeEdit(edit.sae, torch.tensor([1, 2]), torch.zeros(2, 2, 2), torch.zeros(2, 2, 2))
