"""Activation addition: move every activation by the same vector."""

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, norm_rule, wide


def add(
    vector: Float[Tensor, "*#rows d_model"],
    coefficient: float | int | Float[Tensor, "*#rows"] = 1.0,
    *,
    norm: str = "none",
) -> LowRankEdit:
    """Add a vector to an activation.

        h' = h + coefficient * vector

    The vector keeps its length: coefficient=1 with a difference in means moves by one class separation. Norms change,
    unless they are kept ("preserve": h' is rescaled to |h|) or may not grow ("cap").

    Args:
        vector: Steering vector, in residual units, [d_model] or [rows, d_model].
        coefficient: Multiple of the vector; a tensor [rows] gives each row its own.
        norm: "none", "preserve" or "cap".

    Returns:
        A rank-1 LowRankEdit that reads nothing.

    Raises:
        ParameterError: when the coefficient is not finite, or the norm rule is unknown.

    Source: Turner et al. 2023, arXiv:2308.10248; Rimsky et al. 2023, arXiv:2312.06681 (CAA); the norm cap is an option
    of Lee et al. 2024, arXiv:2409.05907 (CAST). Departs from the latter's code, which rescales every token once any
    has grown: here each token is capped by itself.
    """
    rule = norm_rule(norm)
    write = wide(vector)
    flat = write.new_zeros(1)
    offset = amount(coefficient, "coefficient", write).unsqueeze(-1)
    read = torch.zeros(1, write.shape[-1]).to(write)
    return LowRankEdit(read, write.unsqueeze(-2), gain=flat.unsqueeze(-1), offset=offset, radial=flat, bias=flat,
                       norm=rule)
