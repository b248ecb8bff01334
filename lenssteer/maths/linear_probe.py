"""Logistic regression on two classes of activations."""

import warnings

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer.errors import DirectionError

TOLERANCE, SOLVER_TOLERANCE, MOST_STEPS = 1e-6, 1e-10, 1_000


def logistic_probe(
    positive: Float[Tensor, "n d_model"], negative: Float[Tensor, "m d_model"], *, inverse_penalty: float = 1.0
) -> tuple[Float64[Tensor, " d_model"], float]:
    """Weights and intercept of the L2-penalised logistic regression of class on activation.

        min_{w, b}  |w|^2 / 2 + C sum_i log(1 + exp(-y_i (w.x_i + b)))        y_i = +1 positive, -1 negative

    Features are not standardised. The optimum is unique; w.(mean(x+) - mean(x-)) > 0 unless the means are equal. It is
    found, exactly the same, in centred coordinates of the samples' span divided by one common scale s, with C s^2.

    Args:
        positive: Activations of one class.
        negative: Activations of the other.
        inverse_penalty: C.

    Raises:
        DirectionError: when a class is empty, the samples do not differ, or the solver does not converge.

    Source: scikit-learn's LogisticRegression. Departs from arXiv:2604.08169, which stops L-BFGS at a tolerance: here
    Newton steps go on until the gradient proves the weights to 1e-6 of their length.
    """
    if not len(positive) or not len(negative):
        raise DirectionError(f"a probe needs samples of both classes; got {len(positive)} and {len(negative)}.")
    x = torch.cat([positive, negative]).to(torch.float64)
    centre = x.mean(0)
    x = x - centre
    scale = x.norm() / len(x) ** 0.5
    if scale <= 1e-12 * centre.norm():
        raise DirectionError("all samples of both classes are the same point, so no probe tells them apart.")
    span = _span(x)
    w, b = _fit((x @ span.T) / scale, len(positive), inverse_penalty * scale.item() ** 2)
    w = (w / scale) @ span
    return w, b - (w @ centre).item()


def _span(x: Tensor) -> Tensor:
    """Orthonormal rows that span the samples; the identity where there are more samples than dimensions."""
    if len(x) >= x.shape[1]:
        return torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.qr(x.T).Q.T


def _fit(x: Tensor, n_positive: int, inverse_penalty: float) -> tuple[Tensor, float]:
    from sklearn.linear_model import LogisticRegression

    label = torch.arange(len(x)) < n_positive
    tolerance = SOLVER_TOLERANCE / max(1.0, inverse_penalty * len(x))  # its gradient is divided by C n
    probe = LogisticRegression(C=inverse_penalty, solver="newton-cholesky", tol=tolerance, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own tests of convergence are of absolute size; ours follows
        probe.fit(x.numpy(), label.numpy())
    w, b = torch.from_numpy(probe.coef_[0]), torch.from_numpy(probe.intercept_)
    side = label.double() * 2 - 1
    missing = side * torch.sigmoid(-side * (x @ w + b))
    error = (w - inverse_penalty * missing @ x).norm() / w.norm().clamp_min(1e-300)
    if not error <= TOLERANCE or missing.sum().abs() > TOLERANCE * missing.abs().sum():
        raise DirectionError(f"logistic regression on {len(x)} samples did not converge in {MOST_STEPS} steps: its "
                             f"weights are known to {error:.1e} of their length; use mean_difference.")
    return w, b.item()
