import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lenssteer.maths import leading_components, leading_eigenvector

SEEDS = st.integers(0, 10**6)


def rows(n: int, d_model: int, seed: int) -> torch.Tensor:
    return torch.randn(3, n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 20), d_model=st.integers(2, 15), seed=SEEDS)
def test_components_are_scikit_learns(n, d_model, seed):
    x = rows(n, d_model, seed)
    for ours, site in zip(leading_components(x).numpy(), x.numpy()):
        assert abs(abs(PCA(1, svd_solver="full").fit(site).components_[0] @ ours) - 1) < 1e-9
    for ours, site in zip(leading_components(x, centred=False).numpy(), x.numpy()):
        assert abs(abs(np.linalg.svd(site)[2][0] @ ours) - 1) < 1e-9


@settings(max_examples=20, deadline=None)
@given(d_model=st.integers(2, 40), seed=SEEDS)
def test_the_leading_eigenvector_is_numpys(d_model, seed):
    x = rows(50, d_model, seed)[0]
    scatter = x.T @ x
    ours = leading_eigenvector(scatter)
    assert abs(abs(np.linalg.eigh(scatter.numpy())[1][:, -1] @ ours.numpy()) - 1) < 1e-9
    assert torch.equal(ours, leading_eigenvector(scatter)), "no random start"


def test_what_does_not_spread_has_no_component():
    flat = torch.ones(1, 5, 3, dtype=torch.float64) * 0.1
    assert not leading_components(flat).any()
    assert leading_components(flat, centred=False).norm() > 0.99
    assert not leading_eigenvector(torch.zeros(3, 3, dtype=torch.float64)).any()
