import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lenssteer.errors import DirectionError
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


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_every_site_spreads_or_not_by_its_own_measure(scale):
    x = rows(6, 4, 0)
    x[1] = torch.tensor([0.1, 0.2, 0.3, 1 / 3], dtype=torch.float64)
    found = leading_components(scale * x)
    assert not found[1].any()
    expected = [PCA(1, svd_solver="full").fit(site.numpy()).components_[0] for site in (x[0], x[2])]
    for ours, theirs in zip((found[0], found[2]), expected):
        assert abs(abs(theirs @ ours.numpy()) - 1) < 1e-9
    mixed = x * torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64).reshape(3, 1, 1)
    torch.testing.assert_close(leading_components(mixed).abs(), leading_components(x).abs())


def test_rows_in_float32_are_decomposed_in_float64():
    x = rows(6, 4, 0).float()
    torch.testing.assert_close(leading_components(x), leading_components(x.double()))
    assert leading_components(x).dtype == torch.float64


def test_a_matrix_of_one_entry_and_of_any_size_of_entries():
    assert leading_eigenvector(torch.tensor([[2.0]], dtype=torch.float64)).tolist() == [1]
    assert leading_eigenvector(torch.tensor([[0.0]], dtype=torch.float64)).tolist() == [0]
    x = rows(9, 5, 1)[0]
    expected = leading_eigenvector(x.T @ x)
    for scale in (1e-200, 1e200):
        torch.testing.assert_close(leading_eigenvector(scale * (x.T @ x)), expected)


def test_the_largest_eigenvalue_is_meant_and_not_the_largest_magnitude():
    found = leading_eigenvector(torch.diag(torch.tensor([-5.0, 1.0, 0.5], dtype=torch.float64)))
    torch.testing.assert_close(found.abs(), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_what_lanczos_does_not_reach_is_refused(monkeypatch):
    from scipy.sparse import linalg

    def fails(*_, **__):
        raise linalg.ArpackError(-9)

    monkeypatch.setattr(linalg, "eigsh", fails)
    with pytest.raises(DirectionError, match=r"the scatter has no leading direction that can be computed: .*-9") as told:
        leading_eigenvector(torch.eye(3, dtype=torch.float64))
    assert isinstance(told.value.__cause__, linalg.ArpackError)
