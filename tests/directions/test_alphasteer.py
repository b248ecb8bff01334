import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.directions import fit_alphasteer
from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.maths import Moments
from lenssteer.site import Site
from tests.edits import oracle

SITE = Site(3, "resid_pre")
D_MODEL, RANK = 24, 8


def draw(n: int, seed: int, d_model: int = D_MODEL) -> torch.Tensor:
    return torch.randn(n, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1


def benign_in_a_subspace(n: int, seed: int = 0) -> torch.Tensor:
    """Benign activations that leave exactly D_MODEL - RANK dimensions unused."""
    return draw(n, seed, RANK) @ draw(RANK, 99)


def fit(benign: torch.Tensor, malicious: torch.Tensor, refusal: torch.Tensor, **rule):
    return fit_alphasteer(Moments.of(benign), Moments.of(malicious), refusal, SITE, **rule)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), ratio=st.floats(0.1, 0.9), ridge=st.floats(0.5, 100), n=st.integers(3, 40))
def test_the_map_is_the_papers_and_the_codes(seed, ratio, ridge, n):
    """Two dense forms, with a pseudo-inverse: columns and squared norms in the paper, rows in the code."""
    benign, malicious, refusal = draw(50, seed), draw(n, seed + 1) * 1.5, draw(1, seed + 2)[0]
    found = fit(benign, malicious, refusal, ratio=ratio, ridge=ridge)
    ours = np.outer(found.writer, found.reader)
    data = benign.numpy(), malicious.numpy(), refusal.numpy(), ratio, ridge
    np.testing.assert_allclose(ours, oracle.alphasteer_columns(*data), atol=1e-10)
    np.testing.assert_allclose(ours.T, oracle.alphasteer_rows(*data), atol=1e-10)
    h = draw(6, seed + 3)
    steered = edits.alphasteer(found.reader, found.writer, strength=0.4)(h)
    np.testing.assert_allclose(steered, h.numpy() + 0.4 * h.numpy() @ oracle.alphasteer_rows(*data), atol=1e-9)


def test_the_dense_map_of_the_code_has_rank_one():
    w = oracle.alphasteer_rows(draw(50, 0).numpy(), draw(20, 1).numpy(), draw(1, 2)[0].numpy(), 0.6, 10.0)
    singular = np.linalg.svd(w, compute_uv=False)
    assert singular[1] < 1e-13 * singular[0]


def test_the_reader_solves_the_ridge_regression_of_one():
    """No perturbation inside the null space lowers |H_m a - 1|^2 + ridge |a|^2."""
    benign, malicious = benign_in_a_subspace(50), draw(20, 1)
    reader = fit(benign, malicious, draw(1, 2)[0], tolerance=1e-6, ridge=3.0).reader
    gradient = malicious.T @ (malicious @ reader - 1) + 3.0 * reader
    u, singular, _ = np.linalg.svd(benign.numpy().T)
    unused = u[:, RANK:]
    assert singular[RANK - 1] > 1
    np.testing.assert_allclose(unused.T @ gradient.numpy(), 0, atol=1e-9)


@pytest.mark.parametrize("rule", [{"tolerance": 1e-6}, {"energy": 1e-12}, {"ratio": (D_MODEL - RANK) / D_MODEL}])
def test_an_exact_null_space_leaves_benign_activations_alone(rule):
    """Held-out ones too; malicious ones, fewer than its dimensions, read one up to the ridge."""
    benign, malicious = benign_in_a_subspace(50), draw(10, 1)
    found = fit(benign, malicious, draw(1, 2)[0], **rule, ridge=1e-3)
    assert found.n_null == D_MODEL - RANK
    held_out = benign_in_a_subspace(30, seed=5)
    assert (held_out @ found.reader).abs().max() < 1e-6
    np.testing.assert_allclose(malicious @ found.reader, 1, atol=0.01)
    for data in (Moments.of(benign), held_out):
        mean, spread = found.coordinates(data)
        assert abs(mean) < 1e-6
        assert 0 <= spread < 1e-6


def test_coordinates_from_moments_are_those_of_samples():
    benign, malicious, held_out = draw(50, 0), draw(20, 1) + 1, draw(30, 7)
    found = fit(benign, malicious, draw(1, 2)[0])
    for data in (benign, malicious, held_out):
        read = data.numpy() @ found.reader.numpy()
        for form in (data, data.float(), Moments.of(data)):
            mean, spread = found.coordinates(form)
            assert mean == pytest.approx(read.mean(), rel=1e-5)
            assert spread == pytest.approx(read.std(ddof=1), rel=1e-5)
    assert found.coordinates(malicious)[0] > found.coordinates(held_out)[0] + 0.1
    with pytest.raises(ParameterError, match="two samples"):
        found.coordinates(benign[:1])


def test_moments_merged_in_parts_give_the_same_map():
    benign, malicious, refusal = draw(50, 0), draw(20, 1), draw(1, 2)[0]
    merged = Moments.of(benign[:13]) + Moments.of(benign[13:])
    parts = fit_alphasteer(merged, Moments.of(malicious[:7]) + Moments.of(malicious[7:]), refusal, SITE)
    np.testing.assert_allclose(parts.reader, fit(benign, malicious, refusal).reader, atol=1e-11)


def test_the_map_keeps_what_it_was_fitted_with():
    benign, malicious, refusal = draw(50, 0), draw(20, 1), draw(1, 2)[0].float()
    default = fit(benign, malicious, refusal)
    assert (default.site, default.n_null, default.rule) == (SITE, int(D_MODEL * 0.6), "ratio=0.6")
    assert fit(benign, malicious, refusal, energy=0.25).rule == "energy=0.25"
    np.testing.assert_array_equal(default.writer, refusal.double().numpy(), "the raw vector, its length included")


def test_without_a_ridge_the_smallest_solution_is_taken():
    """Fewer malicious samples than dimensions: they all read exactly one."""
    benign, malicious = draw(50, 0), draw(4, 1)
    found = fit(benign, malicious, draw(1, 2)[0], ratio=0.5, ridge=0)
    np.testing.assert_allclose(malicious @ found.reader, 1, atol=1e-8)
    projector = oracle._null_projector(benign.numpy().T, 0.5)
    smallest = projector @ np.linalg.pinv(malicious.numpy() @ projector, rcond=1e-10) @ np.ones(4)
    np.testing.assert_allclose(found.reader, smallest, atol=1e-8)


def test_fits_that_cannot_work_are_refused():
    benign, malicious, refusal = benign_in_a_subspace(50), draw(20, 1), draw(1, 2)[0]
    for ridge in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="ridge must be"):
            fit(benign, malicious, refusal, ridge=ridge)
    with pytest.raises(ParameterError, match="exactly one"):
        fit(benign, malicious, refusal, ratio=0.5, energy=0.1)
    with pytest.raises(DirectionError, match=r"do not reach into the null space at resid_pre\.3"):
        fit(benign, benign_in_a_subspace(20, seed=3), refusal, tolerance=1e-6)
    with pytest.raises(ShapeError, match="one site and one width"):
        fit(benign, draw(20, 1, 7), refusal)
    with pytest.raises(ParameterError, match="scatter=True"):
        fit_alphasteer(Moments.of(benign), Moments.of(malicious, scatter=False), refusal, SITE)
