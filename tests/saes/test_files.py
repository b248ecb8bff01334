"""Folders of SAELens 6 and earlier, releases, hooks, and every way a file can be wrong."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from lenssteer.errors import FileError, ModelError, SiteError
from lenssteer.saes import HOOKS, SaeWarning, load_sae, site_of_hook
from lenssteer.site import STREAMS, Site
from tests.saes.oracle import activations, ours, random_sae, sae_lens

OLD = {"d_in": 12, "d_sae": 40, "dtype": "float64", "device": "cpu", "hook_point": "blocks.2.hook_resid_pre",
       "hook_point_layer": 2, "hook_point_head_index": None, "activation_fn_str": "relu", "normalize_activations": False,
       "model_name": "gpt2-small", "model_from_pretrained_kwargs": {}}


def written(folder, theirs, config):
    """A folder with the arrays of an SAELens autoencoder and a description of our own."""
    theirs.save_model(folder)
    (folder / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def changed(folder, **changes):
    """The folder's description with some entries changed; None takes one out."""
    config = {**json.loads((folder / "cfg.json").read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "cfg.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A standard autoencoder in the layout of SAELens 6."""
    random_sae("standard").save_model(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("kind", "more"), [
    ("standard", {}), ("jumprelu", {"architecture": "jumprelu"}), ("gated", {"architecture": "gated"}),
    ("topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}),
    ("topk", {"activation_fn": "topk", "architecture": "topk", "activation_fn_kwargs": {"k": 5}}),
])
def test_the_layout_before_version_6_is_read_as_sae_lens_reads_it(kind, more, tmp_path):
    written(tmp_path, random_sae(kind), {**OLD, **more})
    theirs = sae_lens().SAE.load_from_disk(tmp_path, dtype="float64")
    sae, h = load_sae(tmp_path), activations()
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(h), theirs.encode(h), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(sae.decode(sae.encode(h)), theirs(h), atol=1e-12, rtol=1e-12)
    assert (sae.kind, str(sae.site), sae.metadata["model_name"]) == (kind, "resid_pre.2", "gpt2-small")


def test_half_precision_is_widened(tmp_path):
    assert ours(random_sae("standard", dtype="bfloat16"), tmp_path).dtype == torch.float32


def test_an_inference_copy_of_a_batchtopk_autoencoder_is_jumprelu(tmp_path):
    lens = sae_lens()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = lens.BatchTopKTrainingSAEConfig(d_in=12, d_sae=40, k=3, dtype="float64")
        config.metadata.hook_name = "blocks.1.hook_mlp_out"
        training = lens.BatchTopKTrainingSAE(config)
    training.topk_threshold += 0.4
    training.save_inference_model(tmp_path)
    sae, h = load_sae(tmp_path), activations()
    theirs = lens.SAE.load_from_disk(tmp_path, dtype="float64")
    assert (sae.kind, str(sae.site)) == ("jumprelu", "mlp_out.1")
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(h), theirs.encode(h), atol=1e-12, rtol=1e-12)
    with pytest.raises(ModelError, match=r"batchtopk.*save_inference_model"):
        load_sae(changed(tmp_path, architecture="batchtopk"))


def test_a_checkpoints_scaling_factor_is_applied(folder):
    changed(folder, normalize_activations="expected_average_only_in")
    h = activations()
    with pytest.warns(SaeWarning, match="nothing says by how much"):
        unscaled = load_sae(folder)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.25}', encoding="utf-8")
    torch.testing.assert_close(load_sae(folder).encode(h), unscaled.encode(h / 4))
    plain = load_sae(changed(folder, normalize_activations="none"))
    assert plain.factor == 1.0, "folded already"


@pytest.mark.parametrize("where", ["metadata", "kwargs", "top"])
@pytest.mark.parametrize("option", ["fold_ln", "center_writing_weights"])
def test_a_model_with_changed_weights_is_warned_about(where, option, folder):
    told = {"hook_name": "blocks.2.hook_resid_post"}
    more = {"metadata": {"metadata": {**told, option: True}}, "top": {option: True},
            "kwargs": {"metadata": {**told, "model_from_pretrained_kwargs": {option: True}}}}[where]
    with pytest.warns(SaeWarning, match=f"changed weights \\({option}\\)"):
        load_sae(changed(folder, **more))


def test_an_option_that_changes_nothing_is_not_warned_about(folder):
    metadata = {"hook_name": "blocks.2.hook_resid_post", "model_from_pretrained_kwargs": {"center_writing_weights": False}}
    load_sae(changed(folder, metadata=metadata))


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_are_sites(hook):
    assert site_of_hook(f"blocks.11.{hook}") == Site(11, HOOKS[hook])
    assert HOOKS[hook] in STREAMS


@pytest.mark.parametrize("hook", ["model.layers.4", "blocks.4.attn.hook_z", "hook_embed", "blocks.4.ln1.hook_normalized", ""])
def test_other_hooks_are_refused_with_the_list(hook, folder):
    changed(folder, metadata={"hook_name": hook})
    with pytest.raises(SiteError, match="hook_resid_pre, hook_attn_out, hook_resid_mid, hook_mlp_out, hook_resid_post"):
        load_sae(folder)
    assert load_sae(folder, site="resid_post.4").site == Site(4, "resid_post")


@pytest.mark.parametrize(("changes", "kind", "message"), [
    ({"architecture": "temporal"}, ModelError, "standard, jumprelu, topk, gated"),
    ({"activation_fn": "tanh-relu"}, ModelError, "expected relu or topk"),
    ({"normalize_activations": "covariance_whitening"}, ModelError, "constant_norm_rescale"),
    ({"hook_head_index": 3}, ModelError, "head 3 only"),
    ({"architecture": "jumprelu"}, FileError, "lack threshold"),
    ({"architecture": "topk", "k": 41}, FileError, "keeps 1 to 40"),
    ({"architecture": "topk", "k": "many"}, FileError, "damaged"),
    ({"metadata": [1]}, FileError, "damaged"),
    ({"metadata": {"hook_name": 4}}, SiteError, "no site for the hook '4'"),
])
def test_what_it_cannot_compute_is_refused_by_name(changes, kind, message, folder):
    with pytest.raises(kind, match=message) as refused:
        load_sae(changed(folder, **changes))
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", "null", "\ud800".encode("utf-8", "surrogatepass")])
def test_a_damaged_description_is_refused(text, folder):
    (folder / "cfg.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileError, match=r"damaged|expected a JSON object"):
        load_sae(folder)


def test_damaged_weights_are_refused(folder):
    weights = folder / "sae_weights.safetensors"
    arrays = load_file(weights)
    save_file({**arrays, "W_dec": arrays["W_dec"][:7].clone()}, weights)
    with pytest.raises(FileError, match="W_dec"):
        load_sae(folder)
    save_file({**arrays, "W_enc": arrays["b_enc"].clone()}, weights)
    with pytest.raises(FileError, match="must have two axes"):
        load_sae(folder)
    save_file({**arrays, "b_dec": arrays["b_dec"] * torch.nan}, weights)
    with pytest.raises(FileError, match="not finite"):
        load_sae(folder)
    save_file({**arrays, "scaling_factor": arrays["b_enc"].clone()}, weights)
    with pytest.raises(ModelError, match="scaling factors"):
        load_sae(folder)
    weights.write_bytes(b"nothing")
    with pytest.raises(FileError, match="damaged"):
        load_sae(folder)
    weights.unlink()
    with pytest.raises(FileError, match=r"sae_weights\.safetensors is missing"):
        load_sae(folder)


@pytest.fixture
def lens(monkeypatch):
    """SAELens with one release; its own list takes two seconds to read."""
    lens = sae_lens()
    monkeypatch.setattr(lens.loading.pretrained_saes_directory, "get_pretrained_saes_directory",
                        lambda: {"gpt2-small-res-jb": None})
    return lens


def test_what_is_neither_folder_nor_release_is_refused(lens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("nowhere", tmp_path / "nowhere"):
        with pytest.raises(FileError, match=r"cfg\.json is missing"):
            load_sae(source)
    with pytest.raises(ModelError, match="neither a folder nor release/id"):
        load_sae("no/where")


def test_a_release_is_loaded_by_sae_lens(lens, monkeypatch):
    """`release/id`, `owner/repository/id` and two arguments reach SAELens as release and id."""
    theirs, asked = random_sae("jumprelu"), []

    def from_pretrained(release, sae_id):
        asked.append((release, sae_id))
        return theirs

    monkeypatch.setattr(lens.SAE, "from_pretrained", from_pretrained)
    h = activations()
    for source in (("gpt2-small-res-jb/blocks.8.hook_resid_pre",), ("somebody/saes/layer_2/wide",), ("any", "one")):
        torch.testing.assert_close(load_sae(*source).encode(h), theirs.encode(h).detach(), atol=1e-12, rtol=1e-12)
    assert asked == [("gpt2-small-res-jb", "blocks.8.hook_resid_pre"), ("somebody/saes", "layer_2/wide"), ("any", "one")]


def test_a_release_that_cannot_be_had_says_so(lens, monkeypatch):
    def offline(release, sae_id):
        raise OSError

    monkeypatch.setattr(lens.SAE, "from_pretrained", offline)
    with pytest.raises(ModelError, match=r"cannot load 'one' of 'any': OSError.*Check both names and the network"):
        load_sae("any", "one")


def test_without_sae_lens_a_folder_is_asked_for(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(ModelError, match="pip install sae-lens"):
        load_sae("gpt2-small-res-jb", "blocks.8.hook_resid_pre")
