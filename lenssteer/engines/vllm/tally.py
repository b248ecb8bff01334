"""What the edits of a step did: lengths are taken at every site, and the rest is worked out once a step."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

COLUMNS = 8
"""Edited tokens; over them the sums of displacement, angle and norm ratio; how many are not finite; tokens with a
direction, and over them the sums of angles to it before and after. As `steering.receipts.Meter` adds them up."""


def lengths(before: Float[Tensor, "tokens d_model"], after: Float[Tensor, "tokens d_model"],
            direction: Float[Tensor, " d_model"]) -> tuple[Float[Tensor, " tokens"], ...]:
    """|h|, |h'|, |h' - h| and the parts of h and h' along a direction; all that `measured` needs of a site."""
    h, new = before.float(), after.float()
    norm = torch.linalg.vector_norm
    return norm(h, dim=-1), norm(new, dim=-1), norm(new - h, dim=-1), h @ direction, new @ direction


def measured(lengths: Float[Tensor, "sites five tokens"],
             directed: Float[Tensor, " sites"]) -> Float[Tensor, "sites tokens columns"]:
    """What happened to every token at every site.

    The angle comes from the chord between the unit vectors, |h/|h| - h'/|h'||^2 = (|h' - h|^2 - (|h'| - |h|)^2) /
    (|h| |h'|), which keeps small angles.

    Args:
        lengths: As `lengths` gives them.
        directed: 1 where a site has a direction, else 0.
    """
    length, new_length, moved, along, new_along = lengths.unbind(1)
    finite = torch.isfinite(new_length)
    edited = (moved > 0) | ~finite
    chord = ((moved.square() - (new_length - length).square()) / (length * new_length).clamp_min(1e-30)).clamp(0, 4)
    degrees = 2 * torch.asin((chord.sqrt() / 2).clamp(max=1))
    start, end = (torch.acos((part / size.clamp_min(1e-30)).clamp(-1, 1)) * directed.unsqueeze(-1)
                  for part, size in ((along, length), (new_along, new_length)))
    values = torch.stack([edited.float(), moved, torch.rad2deg(degrees), new_length / length.clamp_min(1e-30),
                          (~finite).float(), directed.unsqueeze(-1).expand_as(moved), torch.rad2deg(start),
                          torch.rad2deg(end)], -1)
    counted = (edited & finite).unsqueeze(-1).repeat(1, 1, COLUMNS)
    counted[..., 0] = counted[..., 4] = True
    return torch.where(counted, values, 0.0)


def by_owner(values: Float[Tensor, "sites tokens columns"], owner: Int[Tensor, " tokens"],
             owners: int) -> Float[Tensor, "owners sites columns"]:
    """Sums over the tokens of each request, in float64."""
    sums = values.new_zeros(owners, values.shape[0], values.shape[-1], dtype=torch.float64)
    return sums.index_add_(0, owner.to(values.device), values.transpose(0, 1).double())
