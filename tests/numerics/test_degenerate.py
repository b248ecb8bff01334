"""The catalogue against degenerate activations: a defined result or a LenssteerError, and which."""

from pathlib import Path

import pytest
import torch

from lenssteer.directions import Evidence, find_directions
from lenssteer.errors import DirectionError
from lenssteer.maths import Moments, leading_eigenvector
from lenssteer.site import Site
from tests.numerics.degenerate import CASES, ROWS, markdown, outcomes, usual

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
EXPECTED = {
    "finder mean_difference": ".......D..DD....DD",
    "finder mean_centring": ".......D..DD....DD",
    "finder robust_mean": ".......D..DD....DD",
    "finder principal": ".......D..DD....DD",
    "finder pairwise_pca": ".......D..DD....DD",
    "finder class_pca": ".......D..DD....DD",
    "finder fisher": ".D.....DD.DD....DD",
    "finder logistic": ".......D..DDDD.DDD",
    "plane pca": "...DD..D..DD....DD",
    "plane leading": "...DD..D..DD....DD",
    "plane fisher": ".D..D..DDDDD....DD",
    "plane karcher": ".D..D..DDDDD...DDD",
    "plane random": "....D..D..DD....DD",
    "selective": "...DD..D..DD....DD",
    "standard-angular": "...DD..D..DD..!!DD",
    "adaptive-angular": "...DD..D..DD..!!DD",
    "spherical": ".......D..DD....DD",
    "addition": ".......D..DD....DD",
    "caa": ".......D..DD....DD",
    "ablation": ".......D..DD....DD",
    "affine-ablation": ".......D..DD....DD",
    "alphasteer": ".P..P..D..DD....DD",
    "swfc": ".......D..DDDD.DDD",
    "sttp": ".D.....D..DDDD..DD",
    "stmp": ".......D..DDDD..DD",
    "cast": "...D...D..DD....DD",
    "add-latent": ".......D..DD....DD",
    "scale-latent": ".......D..DD....DD",
    "clamp-latent": ".......D..DD....DD",
}


def test_every_finder_plane_and_method_is_in_the_table():
    assert EXPECTED.keys() == ROWS.keys()
    assert {len(line) for line in EXPECTED.values()} == {len(CASES)}
    assert all(line[0] == "." for line in EXPECTED.values())


@pytest.mark.parametrize("row", EXPECTED)
def test_a_result_or_a_clear_error(row):
    assert outcomes(row) == EXPECTED[row]


def test_the_page_shows_the_table():
    assert "\n".join(markdown(EXPECTED)) in PAGE.read_text(encoding="utf-8")


def test_rounding_noise_is_no_scatter():
    """Ten times one point: the mean is off by a rounding, and what that leaves must not turn a direction."""
    point = torch.randn(2, 1, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    evidence = Evidence.of((Site(0, "resid_post"),), *point.expand(2, 1, 10, 6))
    assert evidence.positive.scatter.abs().max() > 0 or evidence.negative.scatter.abs().max() > 0
    assert not evidence.within("test", 0).any()
    with pytest.raises(DirectionError, match="fisher found no direction"):
        find_directions("fisher", evidence)


def test_small_true_scatter_counts():
    """A spread of 1e-10 of the activations is far over the rounding of float64."""
    draw = torch.randn(1, 10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    evidence = Evidence.of((Site(0, "resid_post"),), 1 + 1e-10 * draw, 2 + 1e-10 * draw.flip(1))
    assert torch.equal(evidence.within("test", 0), evidence.positive.scatter[0] + evidence.negative.scatter[0])


def test_one_dimension_has_one_axis():
    assert leading_eigenvector(torch.full((1, 1), 3.0, dtype=torch.float64)).tolist() == [1.0]


def test_evidence_names_the_site_that_is_not_finite():
    found = usual().positive.clone()
    found[2, 1, 3] = float("inf")
    moments = Moments.of(found)
    with pytest.raises(DirectionError, match=r"activations at resid_post\.2 are not finite"):
        Evidence(usual().sites, moments, Moments.of(usual().negative))


@pytest.mark.parametrize("name", ["mean_difference", "fisher", "class_pca", "principal", "pairwise_pca", "robust_mean"])
@pytest.mark.parametrize("exponent", [-100, -30, 0, 30, 100])
def test_directions_do_not_depend_on_the_unit(name, exponent):
    """Finders without a penalty of fixed size: activations in other units have the same directions."""
    held, factor = usual(), 10.0**exponent
    plain = find_directions(name, Evidence.of(held.sites, held.positive.double(), held.negative.double()))
    scaled = find_directions(name, Evidence.of(held.sites, factor * held.positive.double(),
                                               factor * held.negative.double()))
    torch.testing.assert_close(scaled.unit, plain.unit, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scaled.difference / factor, plain.difference, rtol=1e-9, atol=1e-9)
