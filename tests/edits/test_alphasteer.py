import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.errors import ParameterError
from tests.edits.test_methods import SEEDS, WIDTHS, draw


@settings(max_examples=50, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS, strength=st.floats(-2, 2))
def test_the_map_is_a_rank_one_matrix(d_model, seed, strength):
    reader, writer = draw(d_model, seed, 2)
    h = draw(d_model, seed + 1)
    dense = np.eye(d_model) + strength * np.outer(writer, reader)
    np.testing.assert_allclose(edits.alphasteer(reader, writer, strength=strength)(h), h.numpy() @ dense.T,
                               rtol=1e-11, atol=1e-9)


def test_what_does_not_carry_the_reader_is_left():
    reader, writer = torch.eye(2, 5, dtype=torch.float64)
    h = draw(5, 0)
    h[:, 0] = 0
    assert torch.equal(edits.alphasteer(reader, writer, strength=3.0)(h), h)


def test_strength_may_differ_by_row():
    reader, writer = draw(5, 0, 2)
    h = draw(5, 1, 3).unsqueeze(1)
    moved = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64).reshape(3, 1, 1) * (h @ reader).unsqueeze(-1) * writer
    strength = torch.tensor([0.0, 1.0, -0.5])
    np.testing.assert_allclose(edits.alphasteer(reader, writer, strength=strength)(h), h + moved, rtol=1e-11)
    with pytest.raises(ParameterError, match="strength must be"):
        edits.alphasteer(reader, writer, strength=float("nan"))
