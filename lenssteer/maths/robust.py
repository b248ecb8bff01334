"""The geometric median: a centre that a minority of outliers cannot carry away."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError

TOLERANCE, MOST_STEPS = 1e-10, 10_000


def geometric_median(samples: Float[Tensor, "n d_model"]) -> Float64[Tensor, " d_model"]:
    """The point with the least summed distance to all samples.

        y <- (1 - g) T(y) + g y        T(y) = sum_i x_i / |x_i - y|  /  sum_i 1 / |x_i - y|,  over x_i != y
        g = min(1, m / |sum_i (x_i - y) / |x_i - y||),  m = number of samples at y

    Starts at the mean; stops when a step is below 1e-10 of the samples' spread. Up to half of the samples may be moved
    anywhere without carrying the median away.

    Raises:
        DirectionError: when it does not converge.

    Source: Weiszfeld 1937; the step at a sample is that of Vardi & Zhang 2000, PNAS 97(4), Eq. 2.6.
    """
    x = samples.to(torch.float64)
    y = x.mean(0)
    spread = (x - y).norm(dim=-1).mean()
    for _ in range(MOST_STEPS):
        away = x - y
        distance = away.norm(dim=-1, keepdim=True)
        here = distance <= 1e-14 * spread
        if here.all():
            return y
        weight = torch.where(here, 0.0, 1 / torch.where(here, 1.0, distance))
        pull = (weight * away).sum(0)
        rest = (1 - here.sum() / pull.norm().clamp_min(1e-300)).clamp_min(0)
        step = rest * pull / weight.sum()
        y = y + step
        if step.norm() <= TOLERANCE * spread:
            return y
    raise DirectionError(f"the geometric median of {len(x)} samples did not converge in {MOST_STEPS} steps; "
                         "use mean_difference.")
