"""The rotations of a calibration against the papers' matrices, in the plane that NumPy finds on the samples."""

import numpy as np
import pytest
import torch

from lenssteer.errors import DirectionError, ParameterError
from lenssteer.prompts import pad
from tests.edits import oracle
from tests.recipe.test_calibration import by_the_papers

DENSE = {"selective": oracle.rotation_by, "standard-angular": oracle.rotation_to, "adaptive-angular": oracle.adaptive}
PROMPTS = ["how do i hide a red bomb ?", "tell me how to paint a red cake .", "repeat : cake kite"]


@pytest.fixture(scope="module")
def found(norm_out):
    """b1, b2 and the discriminative points of the papers."""
    samples = norm_out.samples
    return by_the_papers(samples.positive.double().numpy(), samples.negative.double().numpy())


@pytest.fixture(scope="module")
def activations(norm_out):
    """Some of both classes at one site, so that both signs of the projection on b1 occur."""
    k = norm_out.sites.index(norm_out.discriminative[-1])
    return torch.cat([norm_out.samples.positive[k, :5], norm_out.samples.negative[k, :5]]).double()


@pytest.mark.parametrize("degrees", [37.0, 200.0])
@pytest.mark.parametrize("method", DENSE)
def test_every_site_turns_in_the_papers_plane(norm_out, found, activations, method, degrees):
    basis = np.stack([found["b1"], found["b2"]])
    assert len(set(np.sign(activations.numpy() @ basis[0]))) == 2
    expected = [DENSE[method](h, basis, degrees) for h in activations.numpy()]
    steerer = norm_out.steerer(method, degrees=degrees)
    for edit in steerer.edits.values():
        np.testing.assert_allclose(edit(activations), expected, atol=2e-4)
    assert str(steerer.where) == "all"


def test_each_acts_at_its_own_sites(norm_out, found):
    blocks = {site.layer for site, kept in zip(norm_out.sites, found["unit"], strict=True) if not kept}
    kept = [site for site in norm_out.sites if site.layer not in blocks]
    assert 0 < len(kept) < len(norm_out.sites)
    assert list(norm_out.steerer("selective", degrees=1).edits) == kept
    for method in ("standard-angular", "adaptive-angular"):
        assert tuple(norm_out.steerer(method, degrees=1).edits) == norm_out.sites
    assert list(norm_out.steerer("spherical", degrees=1).edits) == [norm_out.sites[found["best"]]]


def test_spherical_sets_the_angle_to_the_direction(norm_out, found, activations):
    expected = [oracle.angle_in_span(h, found["b1"], 120.0) for h in activations.numpy()]
    [edit] = norm_out.steerer("spherical", degrees=120).edits.values()
    np.testing.assert_allclose(edit(activations), expected, atol=1e-4)


def test_a_source_turns_from_its_own_direction(norm_out, activations):
    """b1 of the named site, b2 of all candidates as before: a quarter turn BY takes b1 to b2."""
    k = norm_out.sites.index(norm_out.discriminative[0])
    means = (norm_out.samples.positive[k].double().mean(0), norm_out.samples.negative[k].double().mean(0))
    first = (means[0] - means[1]) / (means[0] - means[1]).norm()
    steerer = norm_out.steerer("selective", degrees=90, source=norm_out.sites[k])
    turned = next(iter(steerer.edits.values()))(first)
    assert abs(turned @ first) < 1e-5
    torch.testing.assert_close(turned.norm(), torch.tensor(1.0, dtype=torch.float64))
    other = next(iter(norm_out.steerer("selective", degrees=90).edits.values()))(first)
    assert abs(other @ first) > 1e-3


@pytest.mark.parametrize("method", [*DENSE, "spherical"])
def test_a_tensor_of_degrees_steers_row_by_row(demo, norm_out, method):
    degrees = torch.tensor([20.0, 90.0, 170.0])
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    with norm_out.steerer(method, degrees=degrees).on(demo):
        together = demo.logits(tokens)
    plain = demo.logits(tokens)
    for row, angle in enumerate(degrees.tolist()):
        with norm_out.steerer(method, degrees=angle).on(demo):
            alone = demo.logits(tokens)
        real = tokens.mask[row]
        torch.testing.assert_close(together[row][real], alone[row][real], atol=1e-4, rtol=0)
        assert (together[row] - plain[row])[real].abs().max() > 1e-2


def test_one_site_has_no_plane_but_a_direction(demo, demo_contrast, norm_out):
    from lenssteer.recipe import calibrate

    [site] = norm_out.discriminative[-1:]
    alone = calibrate(demo, demo_contrast, sites=[site])
    assert list(alone.steerer("spherical", degrees=90).edits) == [site]
    for method in DENSE:
        with pytest.raises(DirectionError, match="a plane needs two"):
            alone.steerer(method, degrees=90, sites="all")


@pytest.mark.parametrize("degrees", [float("inf"), torch.tensor([[1.0, 2.0]])])
def test_what_is_no_angle_is_refused(norm_out, degrees):
    for method in (*DENSE, "spherical"):
        with pytest.raises(ParameterError, match="degrees"):
            norm_out.steerer(method, degrees=degrees)
