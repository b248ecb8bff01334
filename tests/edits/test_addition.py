import numpy as np
import pytest
import torch
from hypothesis import given, settings

from lenssteer import edits
from lenssteer.errors import ParameterError
from tests.edits import oracle
from tests.edits.test_methods import SEEDS, WIDTHS, draw


@pytest.mark.parametrize("norm", ["none", "preserve", "cap"])
@settings(max_examples=40, deadline=None)
@given(d_model=WIDTHS, seed=SEEDS)
def test_norm_rules_equal_numpy(norm, d_model, seed):
    v, h = draw(d_model, seed, 1)[0], draw(d_model, seed + 1)
    expected = [oracle.addition(x, -1.5 * v.numpy(), norm) for x in h.numpy()]
    np.testing.assert_allclose(edits.add(v, -1.5, norm=norm)(h), expected, rtol=1e-9, atol=1e-9)


def test_each_token_is_capped_by_itself():
    axis = torch.eye(1, 4, dtype=torch.float64)[0]
    h = torch.stack([4 * axis, -4 * axis])
    capped = edits.add(axis, norm="cap")(h)
    np.testing.assert_array_equal(capped, torch.stack([4 * axis, -3 * axis]), "one would grow, the other shrinks")


def test_a_kept_norm_is_a_rotation_towards_the_vector():
    """Angular Steering, appendix A: the angle becomes atan2(|p|, c + coefficient)."""
    d, h = torch.eye(1, 6, dtype=torch.float64)[0], draw(6, 0)
    new = edits.add(d, 5.0, norm="preserve")(h)
    across = h[:, 1:].norm(dim=-1)
    np.testing.assert_allclose(torch.atan2(new[:, 1:].norm(dim=-1), new[:, 0]), torch.atan2(across, h[:, 0] + 5), rtol=1e-12)
    np.testing.assert_allclose(new.norm(dim=-1), h.norm(dim=-1), rtol=1e-12)


def test_unknown_norm_rules_are_refused():
    with pytest.raises(ParameterError, match="unknown norm rule 'keep'; expected one of none, preserve, cap"):
        edits.add(torch.ones(4), norm="keep")
