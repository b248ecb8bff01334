"""Edits of latents that no low-rank map can make, by encoding each token."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.saes import Sae
from lenssteer.site import Site

AMOUNTS = ("gain", "offset")
SAE_OPTIONS = ("kind", "k", "rescale_by_decoder_norm", "apply_b_dec_to_input", "normalisation", "factor")


@dataclass(frozen=True, eq=False)
class SaeEdit:
    """An edit of latents that encodes each token, at a cost of O(d_model d_sae).

        h' = h + sum_i (gain_i f_i + offset_i) W_dec_i        in the units of h

    Args:
        sae: Autoencoder of the site to edit; of the edited latents alone, unless it is topk.
        latents: Which of its latents.
        gain: Multiple of each that is written, [n], or [rows, n] where each row has its own.
        offset: What is written besides, in units of the latent.
        only_active: Whether the offset is kept from tokens at which the latent is silent.

    Raises:
        ShapeError: when gain and offset are not one a latent, or carry different numbers of rows.
    """

    sae: Sae
    latents: Int[Tensor, " n"]
    gain: Float[Tensor, "*#rows n"]
    offset: Float[Tensor, "*#rows n"]
    only_active: bool = False
    kind: ClassVar[str] = "sae"

    def __post_init__(self) -> None:
        shapes = [getattr(self, name).shape for name in AMOUNTS]
        if any(len(shape) not in (1, 2) or shape[-1] != len(self.latents) for shape in shapes) \
                or len({shape[0] for shape in shapes if len(shape) > 1}) > 1:
            raise ShapeError(f"expected gain and offset of shape [{len(self.latents)}], one a latent, with at most one "
                             f"leading `rows` axis; got {', '.join(str(list(shape)) for shape in shapes)}.")

    @property
    def d_model(self) -> int:
        """Width of the activations the edit is for."""
        return self.sae.d_model

    @property
    def rows(self) -> int | None:
        """How many rows the edit steers differently; None when all rows get the same edit."""
        return next((len(amount) for amount in (self.gain, self.offset) if amount.ndim > 1), None)

    @property
    def write(self) -> Float[Tensor, "n d_model"]:
        """What a unit of each latent writes, up to the scale of the token."""
        return self.sae.rows[self.latents]

    def __call__(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Edited activations, in the shape, dtype and device of `h`; computed in float32, or float64 for float64.

        Raises:
            ShapeError: when d_model or the number of rows disagrees.
        """
        if h.shape[-1] != self.d_model or (self.rows is not None and (h.ndim < 2 or len(h) != self.rows)):
            raise ShapeError(f"the edit is for d_model {self.d_model} and {self.rows or 'any'} rows; the activation is "
                             f"{list(h.shape)}.")
        dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        edit = self if self.sae.dtype == dtype and self.sae.W_enc.device == h.device else self.to(h.device, dtype)
        wide = h.to(dtype)
        f = edit.sae.encode(wide)[..., edit.latents]
        gain, offset = (_spread(getattr(edit, name), h.ndim) for name in AMOUNTS)
        change = gain * f + (offset * (f > 0) if edit.only_active else offset)
        _, scale, _ = edit.sae.normalised(wide)
        return h + (change @ edit.write * scale).to(h.dtype)

    def scaled(self, strength: float | int | Float[Tensor, "*#rows"]) -> "SaeEdit":
        """The same edit with its change multiplied; a tensor [rows] scales each row by its own.

        Raises:
            ParameterError: when the strength is not finite.
        """
        factor = torch.as_tensor(strength).to(self.gain)
        if factor.ndim > 1 or not torch.isfinite(factor).all():
            raise ParameterError(f"strength must be one finite number, or one a row; got {strength}.")
        return replace(self, gain=self.gain * factor.unsqueeze(-1), offset=self.offset * factor.unsqueeze(-1))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "SaeEdit":
        """The same edit with its arrays elsewhere; latents stay integers."""
        return replace(self, sae=self.sae.to(device, dtype), latents=self.latents.to(device=device),
                       gain=self.gain.to(device=device, dtype=dtype), offset=self.offset.to(device=device, dtype=dtype))

    def take(self, index: Int[Tensor, " picked"]) -> "SaeEdit":
        """The edit whose row i is row `index[i]` of this one.

        Raises:
            ParameterError: when the edit has no rows to take.
            ShapeError: when a row does not exist.
        """
        if self.rows is None:
            raise ParameterError("this edit is the same for every row; make it with a tensor of one amount a row.")
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.rows:
            raise ShapeError(f"row {int(index.max())} was asked for, but the edit has {self.rows} rows; "
                             "give one prompt a row.")
        picked = {name: getattr(self, name) for name in AMOUNTS}
        return replace(self, **{name: amount[index.to(amount.device)] if amount.ndim > 1 else amount
                                for name, amount in picked.items()})

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of the edit, and those of its autoencoder under `sae.`."""
        own = {"latents": self.latents, "gain": self.gain, "offset": self.offset}
        return own | {f"sae.{name}": tensor for name, tensor in self.sae.tensors().items()}

    def options(self) -> dict[str, Any]:
        """What is not an array, ready for JSON."""
        return {"only_active": self.only_active, "site": str(self.sae.site),
                "sae": {name: getattr(self.sae, name) for name in SAE_OPTIONS}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> "SaeEdit":
        """The edit that `tensors()` and `options()` describe."""
        arrays = {name.removeprefix("sae."): tensor for name, tensor in tensors.items() if name.startswith("sae.")}
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith("sae.")}
        sae = Sae(Site.parse(options["site"]), **arrays, **options["sae"])
        return cls(sae, **own, only_active=options["only_active"])


def _spread(amount: Tensor, ndim: int) -> Tensor:
    """Give an amount with rows an axis for each axis of the tokens of a row."""
    return amount if amount.ndim == 1 else amount.reshape(len(amount), *[1] * (ndim - 2), -1)
