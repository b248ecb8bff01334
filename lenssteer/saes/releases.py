"""Releases: autoencoders that SAELens knows by name, or that lie on the hub in its layout."""

import warnings
from typing import Any

from torch import Tensor

from lenssteer.errors import ModelError


def split_release(text: str) -> tuple[str, str]:
    """Release and id in `release/id`, or in `owner/repository/id`.

    Raises:
        ModelError: when neither can be meant, or SAELens is not installed.
    """
    first, _, rest = text.partition("/")
    if first not in _sae_lens().loading.pretrained_saes_directory.get_pretrained_saes_directory():
        repository, _, rest = rest.partition("/")
        first = f"{first}/{repository}"
    if not rest:
        raise ModelError(f"{text!r} is neither a folder nor release/id of an autoencoder that SAELens knows, such as "
                         "gpt2-small-res-jb/blocks.8.hook_resid_pre, nor owner/repository/id on the hub.")
    return first, rest


def read_release(release: str, sae_id: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and arrays of an autoencoder, as SAELens loads it: downloaded once, normalisation factor folded in.

    Raises:
        ModelError: when SAELens is not installed, or cannot load it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = _sae_lens().SAE.from_pretrained(release, sae_id)
    except ModelError:
        raise
    except Exception as error:  # SAELens, the hub and the network each raise their own
        why = (str(error).splitlines() or [""])[0][:300]
        raise ModelError(f"SAELens cannot load {sae_id!r} of {release!r}: {type(error).__name__} {why} "
                         "Check both names and the network, or give a folder.") from error
    return loaded.cfg.to_dict(), {name: tensor.detach() for name, tensor in loaded.state_dict().items()}


def _sae_lens() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import sae_lens
    except ImportError as error:
        raise ModelError("no such folder; a release is loaded with SAELens, which is not installed: pip install "
                         "sae-lens (it needs transformer-lens below 4), or give a folder.") from error
    return sae_lens
