"""Edits in narrow dtypes: one rounding of the activation, whatever the method."""

import pytest
import torch

from lenssteer.methods import CATALOGUE
from tests.numerics.drift import DTYPES, Drift, edit_error, markdown, steerers


@pytest.fixture(scope="module")
def made(norm_out, resid_post):
    """Every method's steerer, and the activations that its calibration read."""
    fitted = {"norm_out": norm_out, "resid_post": resid_post}
    h = {site: samples for one in fitted.values()
         for site, samples in zip(one.sites, one.samples.positive.double(), strict=True)}
    return h, dict(steerers(fitted))


def test_every_method_is_measured(made):
    assert made[1].keys() == {"unsteered", *(method.name for method in CATALOGUE)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", CATALOGUE, ids=lambda method: method.name)
def test_an_edit_drifts_by_two_roundings_at_most(made, method, dtype):
    """Of the change and of the sum: each at most half of eps, relative to what is rounded."""
    h, found = made
    error = edit_error(found[method.name], h, DTYPES[dtype])
    assert 0 < error < 2 * torch.finfo(DTYPES[dtype]).eps


def test_the_table_is_a_table():
    lines = markdown({"unsteered": dict.fromkeys(DTYPES, Drift(None, 1e-5)), "x": dict.fromkeys(DTYPES, Drift(0.5, 2.0))})
    assert {line.count("|") for line in lines} == {8}
    assert lines[-1].startswith("| x | 5.0e-01 | 2.0e+00 |")
