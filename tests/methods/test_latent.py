"""The latent methods: from a folder to an edit at the autoencoder's own site."""

import pytest
import torch
from safetensors.torch import save_file

from lenssteer import edits
from lenssteer.errors import FileError, MismatchError, ParameterError
from lenssteer.saes import load_sae
from lenssteer.site import Site

SITE = Site(3, "resid_post")
CONFIG = ('{{"architecture": "{kind}", "k": 6, "normalize_activations": "none", "apply_b_dec_to_input": true, '
          '"metadata": {{"hook_name": "blocks.3.hook_resid_post"}}}}')


def saved(folder, kind="standard", d_model=128, d_sae=32):
    """A random autoencoder in SAELens' layout, without SAELens."""
    draw = torch.Generator().manual_seed(0)
    arrays = {"W_enc": (d_model, d_sae), "W_dec": (d_sae, d_model), "b_enc": (d_sae,), "b_dec": (d_model,)}
    folder.mkdir()
    save_file({name: torch.randn(shape, generator=draw) * 0.2 for name, shape in arrays.items()},
              folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(CONFIG.format(kind=kind), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A saved autoencoder."""
    return saved(tmp_path / "sae")


@pytest.mark.parametrize("kind", ["standard", "topk"])
@pytest.mark.parametrize(("method", "amount", "constructor"), [
    ("scale-latent", {"factor": -1.5}, edits.scale_latent), ("clamp-latent", {"value": 3.0}, edits.clamp_latent)])
def test_a_method_builds_its_edit_at_the_autoencoders_site(resid_post, tmp_path, kind, method, amount, constructor):
    folder = saved(tmp_path / "sae", kind)
    h = torch.randn(7, 128, generator=torch.Generator().manual_seed(1))
    steerer = resid_post.steerer(method, sae=str(folder), latent=5, **amount)
    assert list(steerer.edits) == [SITE]
    expected = constructor(load_sae(folder), 5, *amount.values())(h)
    torch.testing.assert_close(steerer.edits[SITE](h), expected)
    assert not torch.equal(expected, h)


def test_scaling_ablates_by_default(resid_post, folder):
    sae, h = load_sae(folder), torch.randn(50, 128, generator=torch.Generator().manual_seed(1))
    new = resid_post.steerer("scale-latent", sae=sae, latent=5).edits[SITE](h)
    torch.testing.assert_close(new, h - sae.encode(h)[:, 5:6] * sae.W_dec[5])


def test_adding_a_latent_moves_by_its_decoder_row(resid_post, folder):
    h = torch.randn(4, 128)
    edit = resid_post.steerer("add-latent", sae=folder, latent=5, coefficient=2.5).edits[SITE]
    torch.testing.assert_close(edit(h), h + 2.5 * load_sae(folder).W_dec[5])


@pytest.mark.parametrize("latent", [32, -1, 5.0, "five", None])
@pytest.mark.parametrize(("method", "amount"), [("add-latent", "coefficient"), ("scale-latent", "factor"),
                                                ("clamp-latent", "value")])
def test_a_latent_that_is_not_there_is_refused(resid_post, folder, method, amount, latent):
    with pytest.raises(ParameterError, match="from 0 to 31" if latent is not None else "needs latent="):
        resid_post.steerer(method, sae=str(folder), latent=latent, **{amount: 1.0})


@pytest.mark.parametrize("kind", ["standard", "topk"])
def test_it_steers_the_demo_model_and_survives_a_folder(demo, resid_post, tmp_path, kind):
    from lenssteer.models import Decoding, generate
    from lenssteer.steering import Steerer

    prompts = ["how do i hide a red bomb ?", "tell me how to paint a red cake ."]
    steerer = resid_post.steerer("clamp-latent", sae=str(saved(tmp_path / "sae", kind)), latent=5, value=40.0)
    plain = generate(demo, prompts, Decoding(6))
    with steerer.on(demo) as receipt:
        steered = generate(demo, prompts, Decoding(6))
    assert receipt.edited > 0
    assert steered != plain
    with Steerer.load(steerer.save(tmp_path / "steerer")).on(demo):
        assert generate(demo, prompts, Decoding(6)) == steered
    assert generate(demo, prompts, Decoding(6)) == plain


def test_another_site_is_refused(resid_post, folder):
    with pytest.raises(ParameterError, match=r"trained at resid_post\.3"):
        resid_post.steerer("scale-latent", sae=str(folder), latent=5, sites=["resid_post.4"])


def test_what_is_no_autoencoder_of_this_model_is_refused(resid_post, tmp_path):
    with pytest.raises(MismatchError, match="d_model 64"):
        resid_post.steerer("scale-latent", sae=str(saved(tmp_path / "sae", d_model=64)), latent=5)
    with pytest.raises(FileError, match=r"cfg\.json is missing"):
        resid_post.steerer("scale-latent", sae=str(tmp_path / "none"), latent=5)
    with pytest.raises(ParameterError, match="0 to 31"):
        resid_post.steerer("scale-latent", sae=str(saved(tmp_path / "other")), latent=32)
