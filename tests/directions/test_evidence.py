import numpy as np
import pytest
import torch

from lenssteer.directions import Evidence
from lenssteer.errors import DirectionError, ShapeError
from lenssteer.maths import Moments
from tests.directions.planted import SITES, evidence, samples, without_samples


def test_within_and_total_scatter_are_those_of_the_samples():
    _, positive, negative = samples(n=12, m=30)
    found = evidence(n=12, m=30)
    for k in range(len(SITES)):
        plus, minus = positive[k].numpy(), negative[k].numpy()
        within = 12 * np.cov(plus.T, bias=True) + 30 * np.cov(minus.T, bias=True)
        np.testing.assert_allclose(found.within("fisher", k), within, rtol=1e-9, atol=1e-9)
        total = 42 * np.cov(np.concatenate([plus, minus]).T, bias=True)
        np.testing.assert_allclose(found.total("class_pca", k), total, rtol=1e-9, atol=1e-9)


def test_what_was_not_kept_is_refused_by_name():
    bare = without_samples(evidence(), scatter=False)
    with pytest.raises(DirectionError, match=r"fisher needs the scatter.*scatter=True"):
        bare.need_scatter("fisher")
    with pytest.raises(DirectionError, match=r"logistic needs the activations.*samples=True"):
        bare.need_samples("logistic")
    with pytest.raises(DirectionError, match=r"principal pairs.*12 and 30"):
        evidence(n=12, m=30).need_pairs("principal")


def test_evidence_that_disagrees_with_itself_is_refused():
    _, positive, negative = samples()
    sides = Moments.of(positive), Moments.of(negative)
    with pytest.raises(ShapeError, match="4, d_model"):
        Evidence(SITES, sides[0], sides[1][torch.tensor([0, 1])])
    with pytest.raises(ShapeError, match="3, d_model"):
        Evidence(SITES[:3], *sides)
    with pytest.raises(ShapeError, match="one class only"):
        Evidence(SITES, *sides, positive)
    with pytest.raises(ShapeError, match="as their moments count them"):
        Evidence(SITES, *sides, positive[:, :5], negative)
