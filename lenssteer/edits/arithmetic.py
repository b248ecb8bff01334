"""The arithmetic of an edit, on tensors alone."""

import torch
from torch import Tensor
from torch.nn.functional import linear

FEW_LINES, MANY_VALUES = 4, 1 << 17


def is_large(h: Tensor, rank: int) -> bool:
    """Whether thin matrix products would cost several copies of `h`, which is more than a pass a line."""
    return rank <= FEW_LINES and h.numel() >= MANY_VALUES


def affine(h: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """h matrix^T + shift, with the long side last where that is quicker."""
    if not is_large(h, len(matrix)):
        return linear(h, matrix, shift)
    return (matrix @ h.reshape(-1, h.shape[-1]).mT).mT.reshape(*h.shape[:-1], len(matrix)) + shift


def line_by_line(h: Tensor, u: Tensor, write: Tensor) -> Tensor:
    """h + u write, without the thin matrix product, which costs several copies of a large `h`."""
    out = torch.addcmul(h, u[..., :1], write[..., :1, :])
    for i in range(1, u.shape[-1]):
        out.addcmul_(u[..., i : i + 1], write[..., i : i + 1, :])
    return out


def rounding(h: Tensor) -> Tensor:
    """Lengths below this are what rounding leaves of an activation."""
    return 16 * torch.finfo(h.dtype).eps * h.norm(dim=-1, keepdim=True)


def spread(parameter: Tensor, core_dims: int) -> Tensor:
    """Give a parameter with rows an axis for the tokens of a row."""
    return parameter if parameter.ndim == core_dims else parameter.unsqueeze(1)


def with_norm_rule(delta: Tensor, h: Tensor, norm: str) -> Tensor:
    """The change that leads to the rescaled activation; tokens that were not edited stay exactly as they are."""
    edited = h + delta
    length = edited.norm(dim=-1, keepdim=True)
    target = h.norm(dim=-1, keepdim=True)
    target = torch.minimum(length, target) if norm == "cap" else target
    scale = torch.where(length > 0, target / torch.where(length > 0, length, 1), 1)
    rescaled = torch.where((delta != 0).any(-1, keepdim=True), edited * scale - h, delta)
    return torch.where(length > rounding(h), rescaled, 0) if norm == "preserve" else rescaled
