"""The arithmetic of an edit, on tensors alone."""

from math import gcd

import torch
from torch import Tensor
from torch.linalg import vector_norm

FEW_LINES, MANY_VALUES, PIECES = 4, 1 << 17, 64


def is_large(h: Tensor, rank: int) -> bool:
    """Whether thin matrix products would cost several copies of `h`, which is more than a pass a line."""
    return rank <= FEW_LINES and h.numel() >= MANY_VALUES


def affine(h: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """h matrix^T + shift; a large `h` is read in pieces, since one thin product keeps one core busy."""
    if h.ndim != 2:
        return affine(h.reshape(-1, h.shape[-1]), matrix, shift).view(*h.shape[:-1], len(matrix))
    if not is_large(h, len(matrix)):
        return torch.addmm(shift, h, matrix.mT)
    pieces = h.reshape(gcd(len(h), PIECES), -1, h.shape[-1])
    found = torch.baddbmm(shift.unsqueeze(-1), matrix.expand(len(pieces), *matrix.shape), pieces.mT)
    return found.mT.reshape(len(h), len(matrix))


def line_by_line(h: Tensor, u: Tensor, write: Tensor) -> Tensor:
    """h + u write, without the thin matrix product, which costs several copies of a large `h`."""
    if u.shape[-1] == 1:
        return torch.addcmul(h, u, write)
    out = torch.addcmul(h, u[..., :1], write[..., :1, :])
    for i in range(1, u.shape[-1]):
        out.addcmul_(u[..., i : i + 1], write[..., i : i + 1, :])
    return out


def moved(h: Tensor, u: Tensor, write: Tensor) -> Tensor:
    """h + u write, the way that is quickest for the size of `h`."""
    if write.shape[-2] == 1 or is_large(h, write.shape[-2]):
        return line_by_line(h, u, write)
    return torch.addmm(h, u, write) if h.ndim == write.ndim == 2 else h + u @ write


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


def rescaled(edited: Tensor, h: Tensor, touched: Tensor, size: Tensor, limit: Tensor, norm: str) -> Tensor:
    """The activation that `with_norm_rule` leads to, where no cast stands between: `edited` times one number a token.

    Args:
        edited: Activations after the edit.
        h: Before it.
        touched: Whether a token was edited, with an axis of one, as `size` and `limit`.
        size: |h|.
        limit: Length below which an activation is nothing but rounding; more than zero.
        norm: "preserve" or "cap".
    """
    length = vector_norm(edited, dim=-1, keepdim=True)
    ratio = size / torch.maximum(length, limit)
    if norm == "cap":
        return edited * torch.where(touched & (length > size), ratio, 1)
    kept = touched & (length > limit)
    # At weights 0 and 1 exactly the one or the other, and far cheaper than a choice between activations.
    return torch.lerp(h, edited * torch.where(kept, ratio, 0), kept.to(h.dtype))
