"""Leading principal components, of samples or of their scatter."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError

NOISE_RATIO = 1e-12
"""A site whose rows spread less than this share of what they measure has no component, only rounding noise."""


def leading_components(
    rows: Float[Tensor, "sites n d_model"], *, centred: bool = True
) -> Float64[Tensor, "sites d_model"]:
    """First right singular vector of each site's rows, unit length, either sign; zero where the rows do not spread.

        v_k = argmax_v |X_k v|,  |v| = 1

    Args:
        rows: One matrix a site.
        centred: Whether the mean row is removed first.
    """
    wide = rows.to(torch.float64)
    spread = wide - wide.mean(1, keepdim=True) if centred else wide
    vectors = torch.stack([torch.linalg.svd(site, full_matrices=False).Vh[0] for site in spread])
    size, scale = (side.flatten(1).norm(dim=-1, keepdim=True) for side in (spread, wide))
    return torch.where(size > NOISE_RATIO * scale, vectors, 0.0)


def leading_eigenvector(scatter: Float64[Tensor, "d_model d_model"]) -> Float64[Tensor, " d_model"]:
    """Eigenvector of the largest eigenvalue of a symmetric matrix, unit length, either sign; zero where it is zero.

    By Lanczos' method from a fixed start, O(d_model^2) a step, where a full decomposition is O(d_model^3).

    Raises:
        DirectionError: when it does not converge.
    """
    from scipy.sparse.linalg import ArpackError, eigsh

    largest = scatter.abs().max()
    if largest == 0:
        return torch.zeros_like(scatter[0])
    if len(scatter) == 1:
        return torch.ones_like(scatter[0])
    start = torch.randn(len(scatter), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    try:
        _, vectors = eigsh((scatter / largest).numpy(), k=1, which="LA", v0=start.numpy())
    except ArpackError as error:
        raise DirectionError(f"the scatter has no leading direction that can be computed: {error}") from error
    return torch.from_numpy(np.ascontiguousarray(np.asarray(vectors)[:, 0]))
