"""SAE latents: scale, clamp or ablate one, or add its decoder row."""

import operator
from pathlib import Path
from typing import Any

from lenssteer import edits
from lenssteer.errors import MismatchError, ParameterError
from lenssteer.methods.method import Amount, Fitted, Method, Parameter
from lenssteer.saes import Sae, load_sae
from lenssteer.site import Site

SAE = Parameter("sae", "an Sae, a folder with cfg.json, or a sae-lens release/id")
LATENT = Parameter("latent", "number of the latent")


def sae_of(fitted: Fitted, sae: Sae | str | Path) -> Sae:
    """The SAE a parameter names; loaded once.

    Raises:
        MismatchError: when it was trained on activations of another width.
    """
    found = sae if isinstance(sae, Sae) else fitted.once(("sae", str(sae)), lambda: load_sae(str(sae)))
    if found.d_model != fitted.card.d_model:
        raise MismatchError(f"the SAE is for d_model {found.d_model}, {fitted.card.name} has {fitted.card.d_model}.")
    return found


def _latent(sae: Sae, latent: Any) -> int:
    try:
        number = operator.index(latent)
    except TypeError:
        number = -1
    if not 0 <= number < sae.d_sae:
        raise ParameterError(f"latent must be a whole number from 0 to {sae.d_sae - 1}; got {latent!r}.")
    return number


def _scale(fitted: Fitted, _site: Site, factor: Amount, sae: Sae | str | Path, latent: Any) -> Any:
    found = sae_of(fitted, sae)
    return edits.scale_latent(found, _latent(found, latent), factor)


def _clamp(fitted: Fitted, _site: Site, value: Amount, sae: Sae | str | Path, latent: Any) -> Any:
    found = sae_of(fitted, sae)
    return edits.clamp_latent(found, _latent(found, latent), value)


def _add(fitted: Fitted, _site: Site, coefficient: Amount, sae: Sae | str | Path, latent: Any) -> Any:
    found = sae_of(fitted, sae)
    return edits.add(found.rows[_latent(found, latent)] / found.factor, coefficient)


SCALE_LATENT = Method(
    "scale-latent", "SAE latent scaling; 0 ablates (O'Brien et al. 2024, arXiv:2411.11296)",
    (Parameter("factor", "what the latent's activation is multiplied by", default=0.0, amount=True, neutral=1.0), SAE,
     LATENT), "latent", _scale)
CLAMP_LATENT = Method(
    "clamp-latent", "SAE latent clamping (O'Brien et al. 2024, arXiv:2411.11296)",
    (Parameter("value", "what the latent's activation becomes, at every token", amount=True), SAE, LATENT),
    "latent", _clamp)
ADD_LATENT = Method(
    "add-latent", "SAE decoder row as a steering vector (Arad et al. 2025, arXiv:2505.20063)",
    (Parameter("coefficient", "multiple of the decoder row", amount=True, neutral=0.0), SAE, LATENT), "latent", _add)
