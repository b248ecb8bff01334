"""A sparse autoencoder: tensors, how to encode with them, and how to decode.

    x = n(h) - apply_b_dec_to_input * b_dec          n: the normalisation
    m = x W_enc + b_enc                              gated: m = x (W_enc exp(r_mag)) + b_mag
    f = relu(m)                                      standard
        relu(m) where m > threshold, else 0          jumprelu
        relu(m) where m is among the k largest       topk
        relu(m) where x W_enc + b_gate > 0           gated
    decoded = n^-1(f W_dec + b_dec)

`n` is h * factor ("none"), h sqrt(d_model) / |h| ("constant_norm_rescale"), or (h - mean) / (std + 1e-5)
("layer_norm"; std without the last degree of freedom). n^-1 uses the norm, or mean and std, of the same h.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.errors import ParameterError, ShapeError
from lenssteer.site import Site

KINDS: dict[str, tuple[str, ...]] = {
    "standard": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "topk": ("b_enc",),
    "gated": ("r_mag", "b_mag", "b_gate"),
}
"""The kinds, and the arrays of length d_sae that each needs."""
NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")
LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True, eq=False)
class Sae:
    """A sparse autoencoder of one site; see the module for its formulas.

    Args:
        site: What it was trained on.
        kind: One of `KINDS`.
        W_enc: Encoder, [d_model, d_sae].
        W_dec: Decoder; row i is what latent i writes, [d_sae, d_model].
        b_dec: What is decoded when no latent is active.
        b_enc: Encoder bias; none for gated.
        threshold: Of jumprelu, in units of m.
        r_mag: Log scale of the magnitudes of gated.
        b_mag: Bias of the magnitudes of gated.
        b_gate: Bias of the gate of gated.
        k: Latents that topk keeps.
        rescale_by_decoder_norm: Whether topk chooses, and counts, latents in multiples of unit decoder rows:
            m_i |W_dec_i| is encoded, f_i / |W_dec_i| is decoded.
        apply_b_dec_to_input: Whether b_dec is subtracted before encoding.
        normalisation: One of `NORMALISATIONS`.
        factor: What activations are multiplied by ("expected_average_only_in" of SAELens).
        metadata: What else the file says, such as the model's name.

    Raises:
        ParameterError: when kind, k or normalisation is unknown, or an array is missing, foreign to the kind, or not
            finite.
        ShapeError: when shapes or dtypes disagree.

    Source: Bricken et al. 2023, "Towards Monosemanticity"; Rajamanoharan et al. 2024, arXiv:2404.16014 (gated),
    arXiv:2407.14435 (jumprelu); Gao et al. 2024, arXiv:2406.04093 (topk). Formulas as in SAELens 6.
    """

    site: Site
    kind: str
    W_enc: Float[Tensor, "d_model d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]
    b_enc: Float[Tensor, " d_sae"] | None = None
    threshold: Float[Tensor, " d_sae"] | None = None
    r_mag: Float[Tensor, " d_sae"] | None = None
    b_mag: Float[Tensor, " d_sae"] | None = None
    b_gate: Float[Tensor, " d_sae"] | None = None
    k: int = 0
    rescale_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    normalisation: str = "none"
    factor: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.normalisation not in NORMALISATIONS:
            raise ParameterError(f"cannot use a {self.kind!r} autoencoder with normalisation {self.normalisation!r}; "
                                 f"expected one of {', '.join(KINDS)} with one of {', '.join(NORMALISATIONS)}.")
        if self.kind == "topk" and not 1 <= self.k <= self.d_sae:
            raise ParameterError(f"k is {self.k}; a topk autoencoder of {self.d_sae} latents keeps 1 to {self.d_sae}.")
        if not 0 < self.factor < float("inf"):
            raise ParameterError(f"factor is {self.factor}; activations are multiplied by a positive number.")
        self._check_arrays()

    def _check_arrays(self) -> None:
        foreign = self.tensors().keys() - {"W_enc", "W_dec", "b_dec", *KINDS[self.kind]}
        if foreign:
            raise ParameterError(f"a {self.kind} autoencoder has no {', '.join(sorted(foreign))}; is the kind right?")
        shapes = {"W_dec": (self.d_sae, self.d_model), "b_dec": (self.d_model,)}
        for name in ("W_dec", "b_dec", *KINDS[self.kind]):
            tensor = getattr(self, name)
            if tensor is None:
                raise ParameterError(f"a {self.kind} autoencoder needs {name}, which is missing.")
            if tensor.shape != shapes.get(name, (self.d_sae,)) or tensor.dtype != self.W_enc.dtype:
                raise ShapeError(f"{name} is {tensor.dtype} {list(tensor.shape)}; W_enc is {self.W_enc.dtype} "
                                 f"[d_model, d_sae] = {list(self.W_enc.shape)}, so expected {self.W_enc.dtype} "
                                 f"{list(shapes.get(name, (self.d_sae,)))}.")
        for name, tensor in self.tensors().items():
            if not torch.isfinite(tensor).all():
                raise ParameterError(f"{name} holds values that are not finite; the weights are damaged.")

    def __str__(self) -> str:
        return f"{self.kind} autoencoder of {self.site}, {self.d_model} to {self.d_sae}"

    @property
    def d_model(self) -> int:
        """Width of the activations."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_enc.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes; activations are converted to it."""
        return self.W_enc.dtype

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that its kind has, by name."""
        named = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Sae":
        """The same autoencoder with its arrays elsewhere."""
        return replace(self, **{name: t.to(device=device, dtype=dtype) for name, t in self.tensors().items()})

    def take(self, latents: Int[Tensor, " picked"]) -> "Sae":
        """The autoencoder of some latents alone, which they encode to as before.

        Raises:
            ParameterError: when it is topk, whose latents depend on all others.
        """
        if self.kind == "topk":
            raise ParameterError("the latents of a topk autoencoder depend on all others; none can be taken alone.")
        picked = {name: getattr(self, name)[latents] for name in KINDS[self.kind]}
        return replace(self, W_enc=self.W_enc[:, latents], W_dec=self.W_dec[latents], **picked)

    @cached_property
    def rows(self) -> Float[Tensor, "d_sae d_model"]:
        """What one unit of each latent adds to the normalised activation: W_dec, of unit norm where rescaled."""
        return self.W_dec / self._lengths.unsqueeze(-1) if self.rescale_by_decoder_norm else self.W_dec

    @cached_property
    def _lengths(self) -> Float[Tensor, " d_sae"]:
        return self.W_dec.norm(dim=-1)

    def normalised(self, h: Float[Tensor, "*batch d_model"]) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """n(h), and the scale and shift of n^-1(y) = y scale + shift, one for each token or for all."""
        h = h.to(self.dtype)
        if self.normalisation == "none":
            return h * self.factor, 1 / self.factor, 0.0
        if self.normalisation == "constant_norm_rescale":
            scale = h.norm(dim=-1, keepdim=True) / self.d_model**0.5
            return h / scale, scale, 0.0
        mean = h.mean(-1, keepdim=True)
        std = (h - mean).std(-1, keepdim=True)
        return (h - mean) / (std + LAYER_NORM_EPS), std, mean

    def pre_activations(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """m, before any latent is closed; that of the magnitudes for gated."""
        return self._pre(self._input(h))

    def _input(self, h: Tensor) -> Tensor:
        x = self.normalised(h)[0]
        return x - self.b_dec if self.apply_b_dec_to_input else x

    def _pre(self, x: Tensor) -> Tensor:
        if self.r_mag is not None and self.b_mag is not None:
            return x @ (self.W_enc * self.r_mag.exp()) + self.b_mag
        m = x @ self.W_enc if self.b_enc is None else x @ self.W_enc + self.b_enc
        return m * self._lengths if self.rescale_by_decoder_norm else m

    def encode(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """Latents of activations, never negative."""
        x = self._input(h)
        m = self._pre(x)
        if self.kind == "topk":
            top = m.topk(self.k, dim=-1)
            return torch.zeros_like(m).scatter(-1, top.indices, top.values.relu())
        if self.threshold is not None:
            return m.relu() * (m > self.threshold)
        if self.b_gate is not None:
            return m.relu() * (x @ self.W_enc + self.b_gate > 0)
        return m.relu()

    def decode(self, latents: Float[Tensor, "*batch d_sae"],
               h: Float[Tensor, "*batch d_model"] | None = None) -> Float[Tensor, "*batch d_model"]:
        """Activations of latents.

        Args:
            latents: From `encode`, edited or not.
            h: The activations they came from, whose norm or mean and std are undone; needed unless the normalisation
                is "none".

        Raises:
            ParameterError: when `h` is needed and missing.
        """
        decoded = latents @ self.rows + self.b_dec
        if self.normalisation == "none":
            return decoded / self.factor
        if h is None:
            raise ParameterError(f"this autoencoder normalises with {self.normalisation}, which is undone with what "
                                 "was encoded; pass h.")
        _, scale, shift = self.normalised(h)
        return decoded * scale + shift
