"""The arithmetic of an edit, in float64 NumPy: small and large activations take different paths to the same values."""

import numpy as np
import pytest
import torch

from lenssteer import edits
from lenssteer.edits import LowRankEdit, apply_edit
from lenssteer.edits.arithmetic import affine, is_large, line_by_line, rounding, spread, with_norm_rule
from tests.edits import oracle
from tests.edits.test_edit import arrays, random_edit

LARGE = (2, 32, 2048)
"""The fewest values that are many."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_large_is_at_least_131072_values_and_at_most_four_lines():
    assert is_large(torch.empty(2, 65_536), 4)
    assert not is_large(torch.empty(2, 65_536), 5)
    assert not is_large(torch.empty(131_071), 4)


@pytest.mark.parametrize("shape", [(3, 5, 64), LARGE])
@pytest.mark.parametrize("lines", [1, 4, 5])
def test_affine_is_a_matrix_and_a_shift(shape, lines):
    h, matrix, shift = normal(*shape), normal(lines, shape[-1], seed=1), normal(lines, seed=2)
    expected = np.einsum("abd,rd->abr", h.numpy(), matrix.numpy()) + shift.numpy()
    np.testing.assert_allclose(affine(h, matrix, shift), expected, atol=1e-10)


@pytest.mark.parametrize("rows", [(), (3,)])
@pytest.mark.parametrize("lines", [1, 2, 4])
def test_lines_are_added_one_by_one_and_the_activation_stays(rows, lines):
    h, u, write = normal(3, 5, 7), normal(3, 5, lines, seed=1), normal(*rows, lines, 7, seed=2)
    before = h.clone()
    np.testing.assert_allclose(line_by_line(h, u, write), h.numpy() + u.numpy() @ write.numpy(), atol=1e-12)
    assert torch.equal(h, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_sixteen_units_in_the_last_place_of_the_length(dtype):
    h = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=dtype)
    assert rounding(h).tolist() == [[16 * np.finfo(str(dtype).removeprefix("torch.")).eps * 5], [0]]


def test_a_parameter_with_rows_gets_an_axis_for_tokens():
    assert spread(torch.ones(3), 1).shape == (3,)
    assert spread(torch.ones(2, 3), 1).shape == (2, 1, 3)
    assert spread(torch.ones(2, 3), 2).shape == (2, 3)
    assert spread(torch.ones(4, 2, 3), 2).shape == (4, 1, 2, 3)


@pytest.mark.parametrize("share", [4, 64])
def test_what_is_left_of_an_activation_is_rescaled_from_sixteen_units_on(share):
    """Ablated to a multiple of the last place: below the limit it is kept as it was, above it has the old length."""
    h = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    left = share * torch.finfo(torch.float64).eps
    found = h + with_norm_rule(torch.tensor([[-1.0, left]], dtype=torch.float64), h, "preserve")
    np.testing.assert_allclose(found, [[0.0, 1.0]] if share == 64 else [[1.0, 0.0]], atol=1e-12)


def test_an_update_to_zero_is_left_at_zero_under_a_cap():
    h = normal(3, 4)
    assert not (h + with_norm_rule(-h, h, "cap")).any()
    assert not with_norm_rule(torch.zeros_like(h), h, "cap").any()


@pytest.mark.parametrize("norm", ["none", "preserve", "cap"])
@pytest.mark.parametrize(("rank", "gated"), [(1, False), (3, True), (5, False)])
def test_large_activations_get_the_values_of_the_formula(rank, gated, norm):
    edit, h = random_edit(rank, LARGE[-1], 3, gated=gated, norm=norm), normal(*LARGE, seed=4)
    before = h.clone()
    found = edit(h)
    assert torch.equal(h, before)
    assert found.shape == h.shape
    for place in ((0, 0), (0, 31), (1, 7)):
        expected = oracle.low_rank(h[place].numpy(), arrays(edit), norm)
        np.testing.assert_allclose(found[place], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_large_activations_with_rows_and_in_half_precision_are_those_of_small_ones():
    v = normal(LARGE[-1], seed=5)
    edit = LowRankEdit.stack([edits.scale(v, 0.5), edits.scale(v, -2.0)])
    for dtype in (torch.float32, torch.bfloat16):
        h = normal(*LARGE).to(dtype)
        single = torch.stack([edit(h[:, i : i + 1])[:, 0] for i in range(LARGE[1])], 1)
        torch.testing.assert_close(edit(h), single)
        plain = edits.scale(v, 0.5)
        torch.testing.assert_close(plain(h), torch.stack([plain(row) for row in h.flatten(0, 1)]).reshape(h.shape))


def test_an_edit_in_float64_meets_any_activation_in_the_dtype_it_is_defined_for():
    edit, h = random_edit(2, 6, 0), normal(3, 6, seed=1)
    expected = torch.from_numpy(np.stack([oracle.low_rank(row, arrays(edit)) for row in h.numpy()]))
    for dtype, atol in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 1.0)):
        torch.testing.assert_close(apply_edit(edit, h.to(dtype)).double(), expected, atol=atol, rtol=0.02 if atol == 1 else atol)
    single = edit.to(dtype=torch.float32)
    np.testing.assert_allclose(single(h), np.stack([oracle.low_rank(row, arrays(single.to(dtype=torch.float64))) for row in h.numpy()]),
                               rtol=1e-12, atol=1e-12, err_msg="float64 activations are worked in float64 by a float32 edit")


@pytest.mark.parametrize("norm", ["preserve", "cap"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_rules_hold_in_half_precision(dtype, norm):
    v, h = normal(16, seed=7), normal(5, 16, seed=8).to(dtype)
    found = edits.add(v, 2.0, norm=norm)(h)
    expected = np.stack([oracle.addition(row, 2 * v.numpy(), norm) for row in h.double().numpy()])
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps * np.abs(expected).max())


def test_a_long_activation_does_not_hide_the_rest_of_a_short_one():
    """What rounding leaves is told token by token: 16 units in the last place of 1e14 are more than the short one has."""
    read, zero = torch.eye(1, 4, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    edit = LowRankEdit(read, read, torch.zeros(1, 1, dtype=torch.float64), zero, zero + 2.0, zero, radius="complement")
    h = torch.tensor([[1e14, 0, 0, 0], [1.0, 1e-3, 0, 0]], dtype=torch.float64)
    np.testing.assert_allclose(edit(h), [[1e14, 0, 0, 0], [1.002, 1e-3, 0, 0]], rtol=1e-12)
