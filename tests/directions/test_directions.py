import numpy as np
import pytest
import torch

from lenssteer.directions import (
    candidate_plane,
    discriminative_sites,
    global_direction,
    mean_cosine,
    mean_difference,
)
from lenssteer.errors import DirectionError, ParameterError, ShapeError
from lenssteer.maths import Moments
from lenssteer.site import Site, sites_of

SITES = sites_of("norm_out", 3)
N, D = 40, 12


def planted(seed: int = 0, signal: float = 4.0, degenerate: int | None = 0):
    """Noise around a shared direction at every site; at one site both classes are the same point."""
    draw = torch.Generator().manual_seed(seed)
    direction = torch.randn(D, generator=draw, dtype=torch.float64)
    direction /= direction.norm()
    noise = torch.randn(2, len(SITES), N, D, generator=draw, dtype=torch.float64)
    positive, negative = noise[0] + signal * direction, noise[1] - signal * direction
    if degenerate is not None:
        positive[degenerate] = negative[degenerate] = torch.ones(N, D, dtype=torch.float64)
    return direction, positive, negative


def test_the_difference_in_means_is_the_difference_in_means():
    _, positive, negative = planted()
    found = mean_difference(Moments.of(positive), Moments.of(negative), SITES)
    np.testing.assert_allclose(found.difference, positive.numpy().mean(1) - negative.numpy().mean(1), atol=1e-12)


def test_a_planted_direction_is_recovered_and_points_to_the_positive_class():
    truth, positive, negative = planted()
    found = mean_difference(Moments.of(positive), Moments.of(negative), SITES)
    best = global_direction(found)
    assert best.vector @ truth > 0.97
    assert best.positive > best.negative
    swapped = global_direction(mean_difference(Moments.of(negative), Moments.of(positive), SITES))
    torch.testing.assert_close(swapped.vector, -best.vector)
    torch.testing.assert_close(best.raw, found.difference[found.index(best.site)])


def test_degenerate_sites_are_named_and_never_chosen():
    _, positive, negative = planted(degenerate=2)
    found = mean_difference(Moments.of(positive), Moments.of(negative), SITES)
    assert found.degenerate == (SITES[2],)
    assert torch.isneginf(mean_cosine(found)[2])
    assert not found.unit[2].any()
    with pytest.raises(DirectionError, match=str(SITES[2])):
        found.direction(SITES[2])


def test_mean_cosine_counts_the_candidate_itself():
    _, positive, negative = planted(degenerate=None)
    found = mean_difference(Moments.of(positive), Moments.of(negative), SITES)
    unit = found.difference.numpy() / np.linalg.norm(found.difference.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(mean_cosine(found), (unit @ unit.T).mean(1), atol=1e-12)


def test_the_global_direction_has_the_highest_mean_cosine():
    _, positive, negative = planted()
    found = mean_difference(Moments.of(positive), Moments.of(negative), SITES)
    assert global_direction(found).site == SITES[int(mean_cosine(found).argmax())]


def test_identical_classes_are_refused():
    _, positive, _ = planted()
    with pytest.raises(DirectionError, match="same mean"):
        mean_difference(Moments.of(positive), Moments.of(positive), SITES)
    with pytest.raises(ShapeError, match="6, d_model"):
        mean_difference(Moments.of(positive[:2]), Moments.of(positive[:2]), SITES)


def test_rules_of_discriminative_sites():
    """Sites 0..5 project with signs: -/+, same, opposite, opposite, opposite, same; layers are pairs."""
    plus = torch.tensor([[1.0, 0], [1, 0], [2, 0], [1, 0], [3, 0], [1, 0]], dtype=torch.float64)
    minus = torch.tensor([[-1.0, 0], [1, 0], [-1, 0], [-5, 0], [-1, 0], [2, 0]], dtype=torch.float64)
    positive, negative = Moments(1, plus), Moments(1, minus)
    found = mean_difference(Moments(1, plus), Moments(1, plus - torch.tensor([[1.0, 0.0]], dtype=torch.float64)), SITES)
    direction = found.direction(SITES[0])
    sites = tuple(SITES)
    by_means = discriminative_sites(positive, negative, direction, sites, rule="means")
    assert by_means == (SITES[0], SITES[2], SITES[3], SITES[4])
    by_code = discriminative_sites(positive, negative, direction, sites, rule="unit_means")
    assert by_code == (SITES[2], SITES[3]), "a layer is kept only when all of its sites qualify"
    with pytest.raises(ParameterError, match="unit_means"):
        discriminative_sites(positive, negative, direction, sites, rule="mean")


def test_the_two_rules_differ_when_norms_do():
    """One long activation decides a raw mean, but not a mean of unit vectors."""
    positive = torch.tensor([[[1.0, 0.1], [1.0, 0.1], [1.0, 0.1]]], dtype=torch.float64)
    negative = torch.tensor([[[-1.0, 0.1], [-1.0, 0.1], [50.0, 0.1]]], dtype=torch.float64)
    unit = [x / x.norm(dim=-1, keepdim=True) for x in (positive, negative)]
    site = (Site(0, "resid_post"),)
    direction = mean_difference(Moments.of(unit[0]), Moments.of(unit[1]), site).direction(site[0])
    assert discriminative_sites(Moments.of(positive), Moments.of(negative), direction, site, rule="means") == ()
    kept = discriminative_sites(Moments.of(unit[0]), Moments.of(unit[1]), direction, site, rule="unit_means")
    assert kept == site


def test_a_plane_needs_two_candidates():
    _, positive, negative = planted()
    found = mean_difference(Moments.of(positive[1:2]), Moments.of(negative[1:2]), SITES[1:2])
    with pytest.raises(DirectionError, match="Capture more sites"):
        candidate_plane(found, global_direction(found))


def test_the_candidate_plane_contains_the_direction():
    _, positive, negative = planted()
    found = mean_difference(Moments.of(positive), Moments.of(negative), SITES)
    best = global_direction(found)
    plane = candidate_plane(found, best)
    torch.testing.assert_close(plane.basis[0], best.vector)
    assert plane.source == best.site
    assert plane.sign_rule == "largest-entry-positive"
