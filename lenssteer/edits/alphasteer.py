"""AlphaSteer: read one learned coordinate, write the refusal vector."""

from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.edit import LowRankEdit
from lenssteer.edits.geometry import amount, wide


def alphasteer(
    reader: Float[Tensor, "*#rows d_model"],
    writer: Float[Tensor, "*#rows d_model"],
    *,
    strength: float | int | Float[Tensor, "*#rows"],
) -> LowRankEdit:
    """Move an activation along `writer` by as much as it carries of `reader`.

        h' = h + strength (reader.h) writer

    The learned d_model x d_model map of the paper has rank one, so two vectors hold all of it. Positive strength steers
    towards what `writer` points to.

    Args:
        reader: Fitted to read 1 on malicious and 0 on benign activations, [d_model]; see `directions.fit_alphasteer`.
        writer: The refusal vector, [d_model].
        strength: Multiple of the map; a tensor [rows] gives each row its own.

    Returns:
        A rank-1 LowRankEdit.

    Raises:
        ParameterError: when a value is not finite.

    Source: arXiv:2506.07022. Departs from the authors' code: rank one instead of a dense matrix, each token's own
    coordinate instead of the last token's, and the refusal vector points towards refusal.
    """
    read, write = wide(reader), wide(writer)
    zero = read.new_zeros(1)
    gain = amount(strength, "strength", read).unsqueeze(-1).unsqueeze(-1)
    return LowRankEdit(read.unsqueeze(-2), write.to(read).unsqueeze(-2), gain=gain, offset=zero, radial=zero, bias=zero)
