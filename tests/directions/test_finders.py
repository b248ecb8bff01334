"""Every finder against scikit-learn or NumPy, and what all finders share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import shrunk_covariance
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lenssteer.directions import (
    FINDERS,
    Evidence,
    class_pca,
    find_directions,
    fisher,
    logistic,
    mean_centring,
    mean_difference,
    pairwise_pca,
    principal,
    require_finder,
    robust_mean,
)
from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.maths import Moments, geometric_median, logistic_probe
from tests.directions.planted import SITES, evidence, samples, without_samples

SEEDS = st.integers(0, 10**6)
NAMES = list(FINDERS)
MEANS = [name for name in NAMES if name != "robust_mean"]


def same_line(found, expected: np.ndarray) -> bool:
    """Whether each row of found points along the row of expected, with either sign.

    A component may happen to lie at right angles to the class difference; such a site is degenerate.
    """
    unit, usable = expected / np.linalg.norm(expected, axis=1, keepdims=True), found.usable.numpy()
    agree = np.abs((found.unit.numpy() * unit).sum(1)) > 1 - 1e-9
    apart = np.abs(((found.positive - found.negative).numpy() * unit).sum(1))
    scale = (found.positive.norm(dim=-1) + found.negative.norm(dim=-1)).numpy() / 2
    return bool(np.where(usable, agree, apart < 1.01e-4 * scale).all())


@pytest.mark.parametrize("name", NAMES)
def test_every_finder_finds_a_planted_direction(name):
    truth, positive, negative = samples(signal=5.0, n=80, m=80)
    found = find_directions(name, Evidence.of(SITES, positive, negative))
    assert found.finder == name
    assert found.usable.all()
    if name not in ("fisher", "logistic"):
        assert (found.unit @ truth > 0.95).all()
    middle = ((positive.mean(1) + negative.mean(1)) / 2 * found.unit).sum(-1, keepdim=True)
    for side, above in ((positive, True), (negative, False)):
        told = (torch.einsum("knd,kd->kn", side, found.unit) > middle) == above
        assert told.double().mean() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_the_positive_class_projects_higher_and_swapping_classes_flips_the_sign(name):
    _, positive, negative = samples(seed=3, signal=0.7)
    found = find_directions(name, Evidence.of(SITES, positive, negative))
    swapped = find_directions(name, Evidence.of(SITES, negative, positive))
    for site in SITES:
        direction = found.direction(site)
        assert direction.positive > direction.negative
    torch.testing.assert_close(swapped.difference, -found.difference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MEANS if name not in ("mean_difference", "mean_centring")])
def test_the_raw_direction_moves_by_one_class_separation(name):
    """Its length is the distance of the class means along it, so a point at the negative mean lands on the positive one's level."""
    _, positive, negative = samples(seed=1)
    direction = find_directions(name, Evidence.of(SITES, positive, negative)).direction(SITES[1])
    apart = (positive[1].mean(0) - negative[1].mean(0)) @ direction.vector
    torch.testing.assert_close(direction.raw @ direction.vector, apart)
    assert direction.length == pytest.approx(direction.positive - direction.negative)


@pytest.mark.parametrize("name", NAMES)
def test_sites_where_both_classes_are_one_point_are_left_out(name):
    _, positive, negative = samples()
    positive[2] = negative[2] = torch.ones_like(positive[2])
    found = find_directions(name, Evidence.of(SITES, positive, negative))
    assert found.degenerate == (SITES[2],)
    with pytest.raises(DirectionError, match=str(SITES[2])):
        found.direction(SITES[2])


@pytest.mark.parametrize("name", NAMES)
def test_float32_samples_give_float64_directions(name):
    _, positive, negative = samples()
    single = Evidence.of(SITES, positive.float(), negative.float())
    found = find_directions(name, single)
    assert found.difference.dtype == torch.float64
    torch.testing.assert_close(found.unit, find_directions(name, Evidence.of(SITES, positive, negative)).unit,
                               atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_finder_needs_is_what_it_says(name):
    whole = evidence()
    kept = {"samples": whole, "scatter": without_samples(whole, scatter=True),
            "means": without_samples(whole, scatter=False)}
    needs = FINDERS[name].needs
    enough = {"means": ("means", "scatter", "samples"), "scatter": ("scatter", "samples"), "samples": ("samples",)}[needs]
    for level, given_evidence in kept.items():
        if level in enough:
            assert find_directions(name, given_evidence).usable.all()
        else:
            with pytest.raises(DirectionError, match=f"^{name} needs .*calibrate with {needs}=True"):
                find_directions(name, given_evidence)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ParameterError, match=r"unknown finder 'mean_diference'.*mean_difference'\?"):
        find_directions("mean_diference", evidence())
    with pytest.raises(ParameterError, match=r"Did you mean 'fisher'\?"):
        require_finder("fischer")
    with pytest.raises(ParameterError, match=r"unknown plane.*Did you mean 'karcher'\?"):
        require_finder("fisher", "kracher")
    require_finder("fisher", "karcher")


def test_the_catalogue_holds_the_difference_in_means_as_it_was():
    _, positive, negative = samples()
    whole = Evidence.of(SITES, positive, negative)
    plain = mean_difference(whole.positive, whole.negative, SITES)
    assert torch.equal(plain.difference, positive.mean(1) - negative.mean(1))
    assert torch.equal(find_directions("mean_difference", whole).difference, plain.difference)


def test_mean_centring_measures_from_its_background():
    _, positive, negative = samples()
    background = Moments.of(negative + 1.0, scatter=False)
    found = mean_centring(evidence(), background)
    np.testing.assert_allclose(found.difference, positive.numpy().mean(1) - negative.numpy().mean(1) - 1, atol=1e-12)
    assert torch.equal(mean_centring(evidence()).difference, find_directions("mean_difference", evidence()).difference)
    with pytest.raises(ShapeError, match="4, d_model"):
        mean_centring(evidence(), Moments.of(negative[:2]))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_principal_components_of_pairs(seed):
    _, positive, negative = samples(seed, signal=0.5)
    whole = Evidence.of(SITES, positive, negative)
    pairs = (positive - negative).numpy()
    uncentred = np.stack([np.linalg.svd(site)[2][0] for site in pairs])
    centred = np.stack([PCA(1, svd_solver="full").fit(site).components_[0] for site in pairs])
    assert same_line(principal(whole), uncentred)
    assert same_line(principal(whole, centred=True), centred)


def test_randomly_ordered_pairs_then_centred_tend_to_the_uncentred_component():
    """What the authors of representation engineering do, on many pairs."""
    _, positive, negative = samples(n=20_000, m=20_000, signal=0.5)
    signs = np.random.default_rng(0).choice([-1, 1], 20_000)[:, None]
    theirs = PCA(1, svd_solver="full").fit((positive - negative)[0].numpy() * signs).components_[0]
    assert abs(principal(Evidence.of(SITES, positive, negative)).unit[0].numpy() @ theirs) > 1 - 1e-4


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_three_centrings_of_conditional_steering(seed):
    _, positive, negative = samples(seed, signal=0.5)
    whole = Evidence.of(SITES, positive, negative)
    plus, minus = positive.numpy(), negative.numpy()
    rows = {"pairwise": np.concatenate([plus - (plus + minus) / 2, minus - (plus + minus) / 2], 1),
            "center": np.concatenate([plus, minus], 1), "diff": plus - minus}
    for variant, training in rows.items():
        theirs = np.stack([PCA(1, svd_solver="full").fit(site).components_[0] for site in training])
        assert same_line(pairwise_pca(whole, variant=variant), theirs)
    torch.testing.assert_close(pairwise_pca(whole).difference, principal(whole).difference)
    torch.testing.assert_close(pairwise_pca(whole, variant="diff").difference,
                               principal(whole, centred=True).difference)
    with pytest.raises(ParameterError, match="pairwise, center, diff"):
        pairwise_pca(whole, variant="centre")


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 30))
def test_class_pca_from_moments_is_pca_of_all_samples(seed, n):
    _, positive, negative = samples(seed, n=n)
    found = class_pca(without_samples(Evidence.of(SITES, positive, negative), scatter=True))
    pooled = torch.cat([positive, negative], 1).numpy()
    assert same_line(found, np.stack([PCA(1, svd_solver="full").fit(site).components_[0] for site in pooled]))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n=st.integers(5, 40), shrinkage=st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_fisher_from_moments_is_scikit_learns_discriminant(seed, n, shrinkage):
    _, positive, negative = samples(seed, n=n)
    found = fisher(without_samples(Evidence.of(SITES, positive, negative), scatter=True), shrinkage=shrinkage)
    label = np.r_[np.ones(n), np.zeros(40)]
    theirs = [LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(
        torch.cat([plus, minus]).numpy(), label).coef_[0] for plus, minus in zip(positive, negative)]
    assert same_line(found, np.stack(theirs))
    assert (found.unit.numpy() * np.stack(theirs)).sum(1).min() > 0


def test_fisher_is_the_whitened_difference_and_at_full_shrinkage_the_difference():
    _, positive, negative = samples(n=25)
    whole = Evidence.of(SITES, positive, negative)
    plus, minus = positive[0].numpy(), negative[0].numpy()
    pooled = (25 * np.cov(plus.T, bias=True) + 40 * np.cov(minus.T, bias=True)) / 65
    expected = np.linalg.solve(shrunk_covariance(pooled, 0.1), plus.mean(0) - minus.mean(0))
    np.testing.assert_allclose(fisher(whole).unit[0], expected / np.linalg.norm(expected), atol=1e-10)
    torch.testing.assert_close(fisher(whole, shrinkage=1.0).unit, find_directions("mean_difference", whole).unit)
    assert abs(fisher(whole).unit[0] @ fisher(whole, shrinkage=1.0).unit[0]) < 0.99, "else the test shows nothing"


def test_fisher_refuses_what_has_no_inverse():
    few = evidence(n=3, m=3)
    with pytest.raises(DirectionError, match=r"singular.*shrinkage above 0"):
        fisher(few, shrinkage=0.0)
    assert fisher(few, shrinkage=0.01).usable.all()
    with pytest.raises(ParameterError, match="0 to 1"):
        fisher(few, shrinkage=1.5)


def test_logistic_is_the_normal_of_the_probe():
    _, positive, negative = samples(n=20, signal=0.5)
    found = logistic(Evidence.of(SITES, positive, negative))
    for k in range(len(SITES)):
        w, _ = logistic_probe(positive[k], negative[k])
        torch.testing.assert_close(found.unit[k], w / w.norm())


def test_a_fifth_of_outliers_does_not_carry_the_robust_direction_away():
    """The outliers reverse the difference in means."""
    truth, positive, negative = samples(n=50, m=50, signal=3.0)
    clean = robust_mean(Evidence.of(SITES, positive, negative))
    spoilt = positive.clone()
    spoilt[:, :10] -= 1000 * truth
    dirty = Evidence.of(SITES, spoilt, negative)
    assert (find_directions("mean_difference", dirty).unit @ truth < 0).all()
    assert (robust_mean(dirty).unit * clean.unit).sum(-1).min() > 0.98
    ratio = robust_mean(dirty).difference.norm(dim=-1) / clean.difference.norm(dim=-1)
    assert (ratio > 0.8).all()
    assert (ratio < 1.2).all()


def test_robust_centres_are_the_medians():
    _, positive, negative = samples(n=15)
    found = robust_mean(Evidence.of(SITES, positive, negative))
    torch.testing.assert_close(found.positive[1], geometric_median(positive[1]))
    torch.testing.assert_close(found.difference[1], geometric_median(positive[1]) - geometric_median(negative[1]))


def test_components_at_right_angles_to_the_difference_are_degenerate():
    """All variance lies on axis 1, the classes differ on axis 0 only."""
    spread = torch.tensor([[0.0, 10.0], [0.0, -10.0]], dtype=torch.float64)
    shift = torch.tensor([1.0, 0.0], dtype=torch.float64)
    flat = Evidence.of(SITES[:1], (spread + shift).unsqueeze(0), (spread - shift).unsqueeze(0))
    with pytest.raises(DirectionError, match="class_pca found no direction"):
        class_pca(flat)
    torch.testing.assert_close(find_directions("principal", flat).unit[0], shift)
