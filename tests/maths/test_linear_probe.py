import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lenssteer.errors import DirectionError
from lenssteer.maths import linear_probe, logistic_probe

SEEDS = st.integers(0, 10**6)


def two_classes(n: int, m: int, d_model: int, seed: int, signal: float = 0.5, offset: float = 5.0):
    draw = torch.Generator().manual_seed(seed)
    truth, centre = torch.randn(2, d_model, generator=draw, dtype=torch.float64)
    positive = torch.randn(n, d_model, generator=draw, dtype=torch.float64) + signal * truth + offset * centre
    return positive, torch.randn(m, d_model, generator=draw, dtype=torch.float64) - signal * truth + offset * centre


def penalised_loss(parameters: np.ndarray, x: np.ndarray, y: np.ndarray, c: float = 1.0):
    """Value and gradient, from the definition."""
    w, b = parameters[:-1], parameters[-1]
    margin = y * (x @ w + b)
    pull = y / (1 + np.exp(margin))
    value = w @ w / 2 + c * np.logaddexp(0, -margin).sum()
    return value, np.append(w - c * x.T @ pull, -c * pull.sum())


def together(positive, negative):
    return torch.cat([positive, negative]).numpy(), np.r_[np.ones(len(positive)), -np.ones(len(negative))]


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 30), m=st.integers(3, 30), d_model=st.integers(1, 40), seed=SEEDS,
       c=st.sampled_from([0.01, 1.0, 10.0]))
def test_the_probe_minimises_the_penalised_loss(n, m, d_model, seed, c):
    x, y = together(*(sides := two_classes(n, m, d_model, seed)))
    w, b = logistic_probe(*sides, inverse_penalty=c)
    ours = np.append(w.numpy(), b)
    theirs = minimize(penalised_loss, np.zeros(d_model + 1), (x, y, c), jac=True, method="L-BFGS-B",
                      options={"maxiter": 5000, "maxfun": 10_000, "gtol": 1e-9, "ftol": 0})
    value, gradient = penalised_loss(ours, x, y, c)
    assert value <= theirs.fun * (1 + 1e-10) + 1e-12
    np.testing.assert_allclose(gradient[:-1], 0, atol=1e-6 * np.linalg.norm(w))
    np.testing.assert_allclose(ours, theirs.x, atol=1e-2 * max(1, abs(b)))


def test_activations_far_from_the_origin_are_fitted_to_the_optimum():
    """Where L-BFGS stops early: norms in the tens of thousands, more dimensions than samples."""
    draw = torch.Generator().manual_seed(0)
    truth, centre = torch.randn(2, 256, generator=draw, dtype=torch.float64)
    noise = torch.randn(2, 50, 256, generator=draw, dtype=torch.float64) * 100
    positive, negative = noise[0] + 10 * truth + 1000 * centre, noise[1] - 10 * truth + 1000 * centre
    w, b = logistic_probe(positive, negative)
    _, gradient = penalised_loss(np.append(w.numpy(), b), *together(positive, negative))
    assert np.linalg.norm(gradient[:-1]) < 1e-5 * w.norm()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, signal=st.sampled_from([0.0, 0.1, 3.0]))
def test_the_normal_points_to_the_positive_class(seed, signal):
    positive, negative = two_classes(9, 4, 20, seed, signal)
    w, _ = logistic_probe(positive, negative)
    assert w @ (positive.mean(0) - negative.mean(0)) > 0


def test_moving_all_samples_moves_the_intercept_only():
    positive, negative = two_classes(20, 20, 6, 0)
    shift = torch.arange(6, dtype=torch.float64) * 100
    w, b = logistic_probe(positive, negative)
    moved_w, moved_b = logistic_probe(positive + shift, negative + shift)
    torch.testing.assert_close(moved_w, w)
    assert moved_b == pytest.approx(b - (w @ shift).item())


def test_probes_that_do_not_exist_are_refused(monkeypatch):
    positive, negative = two_classes(20, 20, 6, 0)
    with pytest.raises(DirectionError, match="20 and 0"):
        logistic_probe(positive, negative[:0])
    with pytest.raises(DirectionError, match="same point"):
        logistic_probe(torch.ones(3, 2), torch.ones(4, 2))
    monkeypatch.setattr(linear_probe, "MOST_STEPS", 1)
    with pytest.raises(DirectionError, match="did not converge in 1 steps"):
        logistic_probe(positive * 100, negative * 100)


def test_samples_that_are_all_zero_and_samples_that_hardly_differ_are_refused():
    with pytest.raises(DirectionError, match="all samples of both classes are the same point"):
        logistic_probe(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(DirectionError, match="same point"):
        logistic_probe(torch.ones(3, 2, dtype=torch.float64), torch.ones(4, 2, dtype=torch.float64) + 1e-15)
    with pytest.raises(DirectionError, match="got 0 and 4"):
        logistic_probe(torch.ones(0, 2), torch.ones(4, 2))
    positive, negative = two_classes(5, 5, 3, 0)
    w, _ = logistic_probe(positive * 1e-5 + 1e3, negative * 1e-5 + 1e3)
    assert w.norm() > 0, "differences of 1e-8 of the length are still samples"


def test_the_intercept_and_the_weights_are_float64_numbers():
    w, b = logistic_probe(*(side.float() for side in two_classes(9, 4, 3, 0)))
    assert w.dtype == torch.float64
    assert isinstance(b, float)


def test_weights_that_are_known_to_a_share_of_their_length_only_are_refused(monkeypatch):
    """A solver that stops within a hundredth of the optimum, on either side of what is allowed."""
    from sklearn.linear_model import LogisticRegression

    fit, sides = LogisticRegression.fit, two_classes(20, 20, 6, 0)
    for off, refused in ((0.0, False), (1e-8, False), (1e-4, True), (1e-2, True)):

        def nearly(self, x, y, off=off):
            fit(self, x, y)
            self.coef_ = self.coef_ * (1 + off)
            return self

        monkeypatch.setattr(LogisticRegression, "fit", nearly)
        if refused:
            with pytest.raises(DirectionError, match=r"on 40 samples did not converge in 1000 steps: its weights are known to .*e-0[2-5] of"):
                logistic_probe(*sides)
        else:
            logistic_probe(*sides)


def test_an_intercept_that_does_not_balance_the_classes_is_refused(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression.fit

    def shifted(self, x, y):
        fit(self, x, y)
        self.intercept_ = self.intercept_ + 1e-4
        return self

    monkeypatch.setattr(LogisticRegression, "fit", shifted)
    positive = torch.tensor([[1.0], [2.0]])
    with pytest.raises(DirectionError, match="did not converge"):
        logistic_probe(1e-6 * positive, -1e-6 * positive, inverse_penalty=1e-3)
