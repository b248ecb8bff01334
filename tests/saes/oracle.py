"""SAELens' own classes on random weights; their `encode` and `decode` are the oracle."""

import warnings

import pytest
import torch

D_MODEL, D_SAE = 12, 40
KINDS = ("standard", "jumprelu", "topk", "topk-rescaled", "gated")


def sae_lens():
    """SAELens; the test is skipped where TransformerLens 4 keeps it out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sae_lens")


def random_sae(kind, normalisation="none", apply_b_dec=True, *, seed=0, dtype="float64", d_model=D_MODEL, d_sae=D_SAE,
               hook="blocks.2.hook_resid_post", **metadata):
    """An SAELens autoencoder whose every parameter is drawn at random, thresholds of either sign."""
    lens = sae_lens()
    name = kind.split("-")[0]
    shared = {"d_in": d_model, "d_sae": d_sae, "dtype": dtype, "apply_b_dec_to_input": apply_b_dec,
              "normalize_activations": normalisation, "metadata": lens.saes.sae.SAEMetadata(hook_name=hook, **metadata)}
    special = {"k": 5, "rescale_acts_by_decoder_norm": kind.endswith("rescaled")} if name == "topk" else {}
    classes = {"standard": "StandardSAE", "jumprelu": "JumpReLUSAE", "topk": "TopKSAE", "gated": "GatedSAE"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = getattr(lens, classes[name])(getattr(lens, classes[name] + "Config")(**shared, **special))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return sae


def ours(theirs, folder):
    """The same autoencoder, through a folder and lenssteer's reader."""
    from lenssteer.saes import load_sae

    theirs.save_model(folder)
    return load_sae(folder)


def activations(seed=1, *shape, d_model=D_MODEL):
    """Random activations with a mean, so that normalisations matter."""
    draw = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(*(shape or (3, 7)), d_model, generator=draw, dtype=torch.float64) + 0.3
