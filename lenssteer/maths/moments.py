"""Streaming moments: count, mean and scatter of activations, merged with `+`.

    n = n_a + n_b,   delta = mean_b - mean_a
    mean = mean_a + delta n_b / n
    scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n        scatter = sum_i (x_i - mean)(x_i - mean)^T

So one pass, many workers and a resumed run are the same sum. Everything is float64.

Source: Chan, Golub & LeVeque 1983, The American Statistician 37(3), Eq. 1.5.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lenssteer.errors import ParameterError, ShapeError


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and (optionally) scatter of samples, for one site or for a leading axis of sites.

    Args:
        n: Number of samples.
        mean: Sample mean, [*sites, d_model].
        scatter: Centred sum of outer products, [*sites, d_model, d_model]; None where only means are wanted.
    """

    n: int
    mean: Float64[Tensor, "*sites d_model"]
    scatter: Float64[Tensor, "*sites d_model d_model"] | None = None

    @classmethod
    def of(cls, samples: Float[Tensor, "*sites n d_model"], *, scatter: bool = True) -> "Moments":
        """Moments of samples, counted along the last axis but one.

        Raises:
            ParameterError: when there is no sample.
        """
        n = samples.shape[-2]
        if n == 0:
            raise ParameterError("moments of no samples are not defined; give at least one.")
        samples = samples.to(torch.float64)
        mean = samples.mean(-2)
        centred = samples - mean.unsqueeze(-2)
        return cls(n, mean, centred.mT @ centred if scatter else None)

    def __add__(self, other: "Moments") -> "Moments":
        if self.mean.shape != other.mean.shape:
            raise ShapeError(f"cannot merge moments of shape {list(self.mean.shape)} and {list(other.mean.shape)}.")
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        if self.scatter is None or other.scatter is None:
            return Moments(n, mean)
        between = delta.unsqueeze(-1) * delta.unsqueeze(-2) * (self.n * other.n / n)
        return Moments(n, mean, self.scatter + other.scatter + between)

    def __getitem__(self, index: int | Int[Tensor, " picked"]) -> "Moments":
        """Moments of one site, or of some."""
        return Moments(self.n, self.mean[index], None if self.scatter is None else self.scatter[index])

    def variance_along(self, direction: Float[Tensor, "*sites d_model"]) -> Float64[Tensor, "*sites"]:
        """Unbiased variance of the projection on a direction.

        Raises:
            ParameterError: when the scatter was not kept, or there is only one sample.
        """
        if self.scatter is None:
            raise ParameterError("the scatter was not kept; compute the moments with scatter=True.")
        if self.n < 2:
            raise ParameterError("a variance needs at least two samples.")
        d = direction.to(self.scatter)
        return torch.einsum("...i,...ij,...j->...", d, self.scatter, d) / (self.n - 1)
