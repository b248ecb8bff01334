import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lenssteer.directions import Boundary, logistic_boundary
from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.site import Site
from tests.directions.planted import samples

SITE = Site(3, "resid_post")


def sides(**options):
    _, positive, negative = samples(**{"signal": 0.6, "n": 30, "m": 25, **options})
    return positive[0], negative[0]


def by_hand(plus: list[float], minus: list[float], middle: float = 0.0) -> Boundary:
    vector = torch.tensor([1.0, 0.0], dtype=torch.float64)
    plus_sorted, minus_sorted = (torch.tensor(sorted(side), dtype=torch.float64) for side in (plus, minus))
    return Boundary(vector, SITE, middle, plus_sorted, minus_sorted)


def test_the_boundary_is_scikit_learns():
    positive, negative = sides()
    found = logistic_boundary(positive, negative, SITE)
    x, y = torch.cat([positive, negative]).numpy(), np.r_[np.ones(30), np.zeros(25)]
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=100_000).fit(x, y)
    length = np.linalg.norm(theirs.coef_)
    np.testing.assert_allclose(found.vector, theirs.coef_[0] / length, atol=1e-4)
    assert found.boundary == pytest.approx(-theirs.intercept_[0] / length, abs=1e-4)
    assert found.accuracy(positive, negative) == theirs.score(x, y)
    assert found.site == SITE


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_probe_is_undecided_on_the_boundary(seed):
    positive, negative = sides(seed=seed)
    found = logistic_boundary(positive, negative, SITE)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=100_000).fit(
        torch.cat([positive, negative]).numpy(), np.r_[np.ones(30), np.zeros(25)])
    on_it = positive + (found.boundary - positive @ found.vector).unsqueeze(-1) * found.vector
    np.testing.assert_allclose(theirs.predict_proba(on_it.numpy()), 0.5, atol=1e-3)


def test_statistics_of_both_classes_equal_numpy():
    positive, negative = sides()
    found = logistic_boundary(positive, negative, SITE)
    plus, minus = (positive @ found.vector).numpy(), (negative @ found.vector).numpy()
    assert found.positive == pytest.approx(plus.mean())
    assert found.negative == pytest.approx(minus.mean())
    assert found.spread == pytest.approx(plus.std(ddof=1))
    assert found.separation == pytest.approx(plus.mean() - minus.mean())
    assert found.target(1.5) == pytest.approx(plus.mean() + 1.5 * plus.std(ddof=1))
    np.testing.assert_array_equal(found.positive_projections, np.sort(plus))
    np.testing.assert_array_equal(found.negative_projections, np.sort(minus))
    assert found.negative < found.boundary < found.positive


def test_thresholds():
    positive, negative = sides()
    found = logistic_boundary(positive, negative, SITE)
    plus = (positive @ found.vector).numpy()
    assert found.threshold() == found.threshold("boundary") == found.boundary
    for percent in (0, 5, 12.5, 100):
        assert found.threshold(f"percentile({percent})") == pytest.approx(np.percentile(plus, percent))
    assert found.threshold("mean-2sd") == pytest.approx(plus.mean() - 2 * plus.std(ddof=1))
    assert found.threshold("mean-1.5sd") == pytest.approx(plus.mean() - 1.5 * plus.std(ddof=1))


@pytest.mark.parametrize("rule", ["median", "percentile(101)", "percentile(-1)", "mean-sd", "percentile"])
def test_thresholds_that_cannot_be_read_are_refused(rule):
    with pytest.raises(ParameterError, match="mean-2sd"):
        by_hand([1.0, 2.0], [-1.0]).threshold(rule)


def test_flipping_makes_the_other_class_the_aligned_one():
    """The same as fitting with the classes swapped; twice is nothing."""
    positive, negative = sides()
    found = logistic_boundary(positive, negative, SITE)
    flipped, swapped = found.flipped(), logistic_boundary(negative, positive, SITE)
    torch.testing.assert_close(flipped.vector, swapped.vector)
    torch.testing.assert_close(flipped.positive_projections, swapped.positive_projections)
    torch.testing.assert_close(flipped.negative_projections, swapped.negative_projections)
    assert flipped.boundary == pytest.approx(swapped.boundary)
    assert flipped.spread == pytest.approx(swapped.spread)
    assert flipped.accuracy(negative, positive) == found.accuracy(positive, negative)
    again = flipped.flipped()
    assert torch.equal(again.vector, found.vector)
    assert again.boundary == found.boundary
    assert torch.equal(again.positive_projections, found.positive_projections)


def test_accuracy_counts_samples_of_both_classes():
    found = by_hand([1.0, 2.0], [-1.0, -2.0])
    points = torch.tensor([[1.0, 9.0], [-1.0, 9.0], [0.0, 9.0]], dtype=torch.float64)
    assert found.accuracy(points, points[:1]) == pytest.approx(1 / 4), "one of three, and none of one"
    assert found.accuracy(points[:1], points[1:]) == 1.0, "on the boundary counts as negative"


def test_a_given_direction_takes_the_normals_place():
    positive, negative = sides()
    direction = torch.zeros(9)
    direction[4] = -2.0
    found = logistic_boundary(positive, negative, SITE, direction=direction)
    np.testing.assert_array_equal(found.vector, -np.eye(9)[4])
    assert found.boundary == pytest.approx(-(positive[:, 4].mean() + negative[:, 4].mean()).item() / 2)
    assert found.positive == pytest.approx(-positive[:, 4].mean().item())


def test_boundaries_that_do_not_exist_are_refused():
    positive, negative = sides()
    with pytest.raises(DirectionError, match=r"zero at resid_post\.3"):
        logistic_boundary(positive, positive, SITE, direction=torch.zeros(9))
    with pytest.raises(ShapeError, match=r"\[4\]; expected \[9\]"):
        logistic_boundary(positive, negative, SITE, direction=torch.ones(4))
    with pytest.raises(DirectionError, match="two samples"):
        _ = by_hand([1.0], [-1.0]).spread
