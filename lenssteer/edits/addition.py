"""Activation addition: move every activation by the same vector."""

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, wide


def add(
    vector: Float[Tensor, "*#rows d_model"], coefficient: float | int | Float[Tensor, "*#rows"] = 1.0
) -> LowRankEdit:
    """Add a vector to an activation.

        h' = h + coefficient * vector

    The vector keeps its length: coefficient=1 with a difference in means moves by one class separation. Norms change.

    Args:
        vector: Steering vector, in residual units, [d_model] or [rows, d_model].
        coefficient: Multiple of the vector; a tensor [rows] gives each row its own.

    Returns:
        A rank-1 LowRankEdit that reads nothing.

    Raises:
        ParameterError: when the coefficient is not finite.

    Source: Turner et al. 2023, arXiv:2308.10248; Rimsky et al. 2023, arXiv:2312.06681 (CAA).
    Departs from the authors' code: nothing known.
    """
    write = wide(vector)
    flat = write.new_zeros(1)
    offset = amount(coefficient, "coefficient", write).unsqueeze(-1)
    read = torch.zeros(1, write.shape[-1]).to(write)
    return LowRankEdit(read, write.unsqueeze(-2), gain=flat.unsqueeze(-1), offset=offset, radial=flat, bias=flat)
