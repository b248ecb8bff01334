"""Read a sparse autoencoder: a folder in SAELens' layout, or a release that SAELens downloads."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lenssteer.artefacts.reading import read_object
from lenssteer.artefacts.tensors import read_tensors
from lenssteer.errors import FileError, LenssteerError, ModelError, ParameterError, ShapeError
from lenssteer.saes.hooks import site_of_hook
from lenssteer.saes.releases import read_release, split_release
from lenssteer.saes.sae import KINDS, NORMALISATIONS, Sae
from lenssteer.site import Site

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
OLD_KEYS = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
FOLDING = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases",
           "refactor_factored_attn_matrices")
"""What HookedTransformer does to weights when asked, and lenssteer never does."""


class SaeWarning(UserWarning):
    """An autoencoder that can be used, but may not see the activations it was trained on."""


def load_sae(source: Path | str, sae_id: str | None = None, *, site: Site | str | None = None) -> Sae:
    """Load a sparse autoencoder.

    Args:
        source: A folder with cfg.json and sae_weights.safetensors as SAELens writes them, from version 6 or before; a
            release of SAELens or a hub repository; or `release/id`. Only folders can be read without SAELens.
        sae_id: Which autoencoder of the release.
        site: Where it belongs, if the file names its hook in other words than TransformerLens.

    Returns:
        The autoencoder in float32, or float64 where it was saved so.

    Raises:
        FileError: when a file is missing or damaged, or its arrays disagree.
        ModelError: when the architecture or an option is not one lenssteer computes, or the release cannot be had.
        SiteError: when it reads a hook that is no site.

    Source: the layout of SAELens 6 (Bloom et al.), and what its loaders accept of earlier ones.
    Departs from it: "expected_average_only_in" is applied where the factor is in the description or in a checkpoint's
    activation_scaler.json, and warned about where it is in neither.
    """
    folder = Path(source)
    if sae_id is None and not folder.exists() and not folder.is_absolute() and "/" in str(source):
        source, sae_id = split_release(str(source))
    config, tensors = _read_folder(folder) if sae_id is None else read_release(str(source), sae_id)
    name = source if sae_id is None else f"{source}/{sae_id}"
    try:
        return _built(_flat(config), tensors, Site.parse(site) if isinstance(site, str) else site)
    except (ParameterError, ShapeError) as error:
        raise FileError(f"{name} is damaged: {error}") from error
    except LenssteerError as error:
        error.args = (f"{name}: {error}",)
        raise
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RuntimeError) as error:
        raise FileError(f"{name} is damaged: {type(error).__name__} {str(error)[:300]}") from error


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileError(f"{folder} is not an autoencoder: {name} is missing. Give a folder that SAELens saved, or "
                            "release/id.")
    try:
        config = read_object(folder / CONFIG)[0]
        scaler = read_object(folder / SCALER)[0] if (folder / SCALER).exists() else {}
        tensors = read_tensors(folder / WEIGHTS)
    except OSError as error:
        raise FileError(f"{folder} is damaged: {error}") from error
    factor = scaler.get("scaling_factor")
    return config if factor is None else {"norm_scaling_factor": factor, **config}, tensors


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping of what any version wrote, in the words of version 6."""
    own = {key: value for key, value in config.items() if key != "metadata"}
    merged: dict[str, Any] = {**(config.get("metadata") or {}), **own}
    flat = {OLD_KEYS.get(key, key): value for key, value in merged.items()}
    if flat.get("activation_fn") == "topk":
        flat |= {"architecture": "topk", "k": (flat.get("activation_fn_kwargs") or {}).get("k", flat.get("k", 0))}
    if isinstance(flat.get("normalize_activations"), bool):
        flat["normalize_activations"] = "expected_average_only_in" if flat["normalize_activations"] else "none"
    return flat


def _built(flat: Mapping[str, Any], tensors: Mapping[str, Tensor], site: Site | None) -> Sae:
    kind = str(flat.get("architecture", "standard"))
    _refuse(flat, kind, tensors)
    site = site or site_of_hook(str(flat.get("hook_name") or ""))
    missing = {"W_enc", "W_dec", "b_dec", *KINDS[kind]} - tensors.keys()
    if missing:
        raise FileError(f"the weights of a {kind} autoencoder lack {', '.join(sorted(missing))}.")
    arrays = {name: tensors[name] for name in ("W_enc", "W_dec", "b_dec", *KINDS[kind])}
    if any(arrays[name].ndim != (2 if name.startswith("W") else 1) for name in arrays):
        raise FileError("W_enc and W_dec must have two axes and the other arrays one; got "
                        f"{ {name: list(tensor.shape) for name, tensor in arrays.items()} }.")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in arrays.values()) else torch.float32
    normalisation, factor = _normalisation(flat)
    _warn_folded(flat)
    return Sae(site, kind, **{name: tensor.to(dtype) for name, tensor in arrays.items()},
               k=int(flat.get("k", 0)) if kind == "topk" else 0,
               rescale_by_decoder_norm=kind == "topk" and bool(flat.get("rescale_acts_by_decoder_norm", False)),
               apply_b_dec_to_input=bool(flat.get("apply_b_dec_to_input", True)),
               normalisation=normalisation, factor=factor,
               metadata={key: value for key, value in flat.items() if key not in ("device", "dtype")})


def _refuse(flat: Mapping[str, Any], kind: str, tensors: Mapping[str, Tensor]) -> None:
    if kind not in KINDS:
        raise ModelError(f"cannot use an autoencoder of architecture {kind!r}; expected one of {', '.join(KINDS)}. "
                         "SAELens' save_inference_model turns batchtopk ones into jumprelu.")
    if flat.get("activation_fn", "relu") not in ("relu", "topk"):
        raise ModelError(f"cannot use the activation function {flat['activation_fn']!r}; expected relu or topk.")
    if flat.get("hook_head_index") is not None:
        raise ModelError(f"this autoencoder reads head {flat['hook_head_index']} only; a site holds all heads.")
    scaling = tensors.get("scaling_factor", tensors.get("finetuning_scaling_factor"))
    if scaling is not None and not torch.allclose(scaling, torch.ones_like(scaling)):
        raise ModelError("this autoencoder has finetuned scaling factors, which SAELens 6 dropped too; fold them into "
                         "W_dec and save it again.")


def _normalisation(flat: Mapping[str, Any]) -> tuple[str, float]:
    name = str(flat.get("normalize_activations") or "none")
    if name == "expected_average_only_in":
        if not flat.get("norm_scaling_factor"):
            warnings.warn("this autoencoder was trained on rescaled activations, but nothing says by how much "
                          "(norm_scaling_factor); activations are used as they are.", SaeWarning, stacklevel=4)
        return "none", float(flat.get("norm_scaling_factor") or 1.0)
    if name not in NORMALISATIONS:
        raise ModelError(f"cannot undo normalize_activations {name!r}; expected one of {', '.join(NORMALISATIONS)} or "
                         "expected_average_only_in. SAELens can fold it into the weights.")
    return name, 1.0


def _warn_folded(flat: Mapping[str, Any]) -> None:
    options = {**flat, **(flat.get("model_from_pretrained_kwargs") or {})}
    folded = [name for name in FOLDING if options.get(name)]
    if folded:
        warnings.warn(f"this autoencoder was trained on a model with changed weights ({', '.join(folded)}); lenssteer "
                      "reads raw weights, whose activations differ, so its latents may mean something else.",
                      SaeWarning, stacklevel=4)
