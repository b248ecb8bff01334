import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.errors import ParameterError
from tests.edits.test_methods import SEEDS, WIDTHS, draw

FACTORS = st.floats(-5, 5)


def close(actual, expected) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, factor=FACTORS)
def test_scaling_is_a_dense_matrix(d_model, seed, factor):
    d, h = draw(d_model, seed, 1)[0].numpy(), draw(d_model, seed + 1)
    v = d / np.linalg.norm(d)
    dense = np.eye(d_model) + (factor - 1) * np.outer(v, v)
    close(edits.scale(torch.from_numpy(d), factor)(h), h.numpy() @ dense.T)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, value=FACTORS)
def test_a_clamped_component_has_the_value_and_the_rest_stays(seed, value):
    d, h = draw(8, seed, 1)[0], draw(8, seed + 1)
    v, edit = d / d.norm(), edits.clamp(d, value)
    close(edit(h) @ v, np.full(5, value))
    close(edit(h) - (edit(h) @ v).unsqueeze(-1) * v, h - (h @ v).unsqueeze(-1) * v)
    close(edit(edit(h)), edit(h))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_reflection_is_the_householder_map(seed):
    d, h = draw(8, seed, 1)[0], draw(8, seed + 1)
    v, edit = (d / d.norm()).numpy(), edits.reflect(d)
    close(edit(h), h.numpy() @ (np.eye(8) - 2 * np.outer(v, v)))
    close(edit(edit(h)), h)
    close(edit(h).norm(dim=-1), h.norm(dim=-1))


def test_special_factors():
    d, h = draw(8, 0, 1)[0], draw(8, 1)
    close(edits.scale(d, 0.0)(h) @ d, np.zeros(5))
    assert torch.equal(edits.scale(d, 1.0)(h), h)
    close(edits.scale(d, -1.0)(h), edits.reflect(d)(h))


def test_numbers_may_differ_by_row_and_zero_directions_do_nothing():
    d, h = draw(8, 0, 1)[0], draw(8, 1, 3).unsqueeze(1)
    numbers = torch.tensor([0.0, 1.0, -4.0], dtype=torch.float64)
    for make in (edits.scale, edits.clamp):
        alone = torch.stack([make(d, value.item())(row) for value, row in zip(numbers, h, strict=True)])
        close(make(d, numbers)(h), alone)
        assert torch.equal(make(torch.zeros(8), 3.0)(h), h)
    with pytest.raises(ParameterError, match="factor must be"):
        edits.scale(d, float("nan"))
    with pytest.raises(ParameterError, match="value must be"):
        edits.clamp(d, float("inf"))
