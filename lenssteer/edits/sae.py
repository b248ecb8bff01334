"""Edits of the latents of a sparse autoencoder; its error stays in the activation.

    h' = h + sum_i (f'_i - f_i) W_dec_i        in the units of h

For standard, jumprelu and gated autoencoders whose input is not normalised token by token, latent i is one gated
coordinate of h, and the edit is low-rank:

    f_i = m_i where m_i > t_i, else 0          m_i = read_i h + bias_i

    standard   t = 0                           jumprelu   t = max(threshold, 0)
    gated      m = e^r p + b_mag, with p + b_gate > 0 the gate, so t = max(0, b_mag - e^r b_gate)

Topk latents depend on all others, and the other normalisations on the whole token: there an `SaeEdit` encodes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.encoded import SaeEdit
from lenssteer.errors import ParameterError
from lenssteer.saes import Sae

Latents = int | Sequence[int]
Amounts = float | int | Sequence[float | int] | Float[Tensor, "*#rows"]


def scale_latent(sae: Sae, latent: Latents, factor: Amounts) -> LowRankEdit | SaeEdit:
    """Multiply latents where they are active.

        f' = factor f

    factor=1 is the identity, 0 ablates, a negative factor writes against the decoder row.

    Args:
        sae: Autoencoder of the site to edit.
        latent: A latent, or several.
        factor: One for all, a list of one a latent, or a tensor [rows] that gives each row its own.

    Returns:
        A LowRankEdit of one rank a latent where the autoencoder allows it, an SaeEdit elsewhere.

    Raises:
        ParameterError: when a latent does not exist or is named twice, or a factor is not finite.

    Source: O'Brien et al. 2024, arXiv:2411.11296, with the error term kept as in Templeton et al. 2024, "Scaling
    Monosemanticity".
    """
    chosen = _latents(sae, latent)
    gain = _amounts(factor, len(chosen), "factor") - 1
    return _edit(sae, chosen, gain, torch.zeros(len(chosen)), only_active=False)


def clamp_latent(sae: Sae, latent: Latents, value: Amounts, *, only_active: bool = False) -> LowRankEdit | SaeEdit:
    """Set latents to a value.

        f' = value        at every token, or only where f > 0

    Args:
        sae: Autoencoder of the site to edit.
        latent: A latent, or several.
        value: In units of the latent: one for all, a list of one a latent, or a tensor [rows] that gives each row its
            own. Negative values write against the decoder row.
        only_active: Whether tokens at which a latent is silent are left alone.

    Returns:
        A LowRankEdit where the autoencoder allows it, of one rank a latent and one more for the value of each unless
        `only_active`; an SaeEdit elsewhere.

    Raises:
        ParameterError: when a latent does not exist or is named twice, or a value is not finite.

    Source: Templeton et al. 2024, "Scaling Monosemanticity"; O'Brien et al. 2024, arXiv:2411.11296.
    """
    chosen = _latents(sae, latent)
    return _edit(sae, chosen, -torch.ones(len(chosen)), _amounts(value, len(chosen), "value"), only_active)


def ablate_latent(sae: Sae, latent: Latents) -> LowRankEdit | SaeEdit:
    """Silence latents: `scale_latent` by 0.

    Args:
        sae: Autoencoder of the site to edit.
        latent: A latent, or several.

    Raises:
        ParameterError: when a latent does not exist or is named twice.
    """
    return scale_latent(sae, latent, 0.0)


def _edit(sae: Sae, latents: Tensor, gain: Tensor, offset: Tensor, only_active: bool) -> LowRankEdit | SaeEdit:
    latents, gain, offset = latents.to(sae.W_enc.device), gain.to(sae.W_enc), offset.to(sae.W_enc)
    if sae.kind == "topk":
        return SaeEdit(sae, latents, gain, offset, only_active)
    if sae.normalisation != "none":
        return SaeEdit(sae.take(latents), torch.arange(len(latents)).to(latents), gain, offset, only_active)
    return _low_rank(sae, latents, gain, offset, only_active)


def _low_rank(sae: Sae, latents: Int[Tensor, " n"], gain: Float[Tensor, "*#rows n"], offset: Float[Tensor, "*#rows n"],
              only_active: bool) -> LowRankEdit:
    """f' - f = gain f + offset; unless `only_active`, the offset takes n more coordinates, open and reading nothing."""
    read, bias, threshold = _coordinates(sae, latents)
    write, gate = sae.rows[latents] / sae.factor, torch.ones_like(bias)
    if not only_active and offset.any():
        none = torch.zeros_like(bias)
        read, write = torch.cat([read, torch.zeros_like(read)]), torch.cat([write, write])
        gate, bias, threshold = torch.cat([gate, none]), torch.cat([bias, none]), torch.cat([threshold, none])
        gain = torch.nn.functional.pad(gain, (0, len(latents)))
        offset = torch.nn.functional.pad(offset, (len(latents), 0))
    return LowRankEdit(read, write, torch.diag_embed(gain), offset, radial=torch.zeros_like(bias), bias=bias,
                       gate=torch.diag(gate), threshold=threshold)


def _coordinates(sae: Sae, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """read, bias and threshold of latents: f = m where m = read h + bias > threshold >= 0, else 0."""
    encoder = sae.W_enc[:, latents].mT
    shift = encoder @ sae.b_dec if sae.apply_b_dec_to_input else encoder.new_zeros(len(latents))
    if sae.r_mag is not None and sae.b_mag is not None and sae.b_gate is not None:
        scale = sae.r_mag[latents].exp()
        bias, threshold = sae.b_mag[latents], sae.b_mag[latents] - scale * sae.b_gate[latents]
        encoder, shift = encoder * scale.unsqueeze(-1), shift * scale
    else:
        bias = torch.zeros_like(shift) if sae.b_enc is None else sae.b_enc[latents]
        threshold = torch.zeros_like(shift) if sae.threshold is None else sae.threshold[latents]
    return encoder * sae.factor, bias - shift, threshold.clamp_min(0)


def _latents(sae: Sae, latent: Latents) -> Int[Tensor, " n"]:
    chosen = [latent] if isinstance(latent, int) else list(latent)
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= i < sae.d_sae for i in chosen):
        raise ParameterError(f"expected different latents from 0 to {sae.d_sae - 1}, at least one; got {chosen}.")
    return torch.tensor(chosen)


def _amounts(amount: Amounts, n: int, name: str) -> Float[Tensor, "*rows n"]:
    """One amount for each latent; of a tensor [rows], the same for all latents of a row."""
    given = torch.as_tensor(amount, dtype=torch.float64)
    listed = isinstance(amount, Sequence)
    if given.ndim > 1 or (listed and given.shape != (n,)) or not torch.isfinite(given).all():
        raise ParameterError(f"{name} must be one finite number, a list of one for each of {n} latents, or a tensor of "
                             f"one a row; got {amount}.")
    return given if listed else given.unsqueeze(-1).expand(*given.shape, n).clone()
