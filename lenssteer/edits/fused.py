"""`apply_edit` as one kernel: the activation is read and written once, where single operations pass over it many times.

An update is bound by memory, not arithmetic. The compiler turns the map into as few passes as it can when the reads are
written as sums, which it fuses, and not as thin matrix products, which it does not.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.edits.arithmetic import rounding, spread, with_norm_rule
from lenssteer.edits.edit import LowRankEdit, Norm, Radius

COMPILER = "inductor"
FEW = 4
"""Ranks up to which reads and writes are sums; more lines are worth a matrix product."""
KERNELS = 64
"""Kernels that are kept: one for each kind of edit and dtype, whatever the shapes. Others run uncompiled."""


def is_worth_it(h: Tensor) -> bool:
    """Whether the fused map is the faster one for an activation: on CUDA, where kernels can be compiled.

    On a CPU it was slower at one token and no faster at many; with gradients the plain map is used.
    """
    return h.is_cuda and not torch.is_grad_enabled() and not torch.compiler.is_compiling() and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def apply_fused(edit: LowRankEdit, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """The values of `apply_edit`, up to rounding; the edit is on the device of `h` and in the dtype it works in.

    Args:
        edit: In float64 for float64 activations, else in float32.
        h: Activations; with rows, the first axis is the row.
    """
    flat = h.reshape(h.shape[0], -1, h.shape[-1]) if edit.rows is not None else h.reshape(-1, h.shape[-1])
    written = edit.written if edit.is_radial else None
    with torch._dynamo.config.patch(recompile_limit=KERNELS):
        new = _compiled(COMPILER)(flat, edit.read, edit.write, edit.gain, edit.offset, edit.bias,
                                  edit.radial if edit.is_radial else None, written, edit.gate, edit.threshold,
                                  edit.norm, edit.radius)
    return new.reshape(h.shape)


@cache
def _compiled(compiler: str) -> Any:
    return torch.compile(_mapped, backend=compiler, dynamic=True)


def _mapped(h: Tensor, read: Tensor, write: Tensor, gain: Tensor, offset: Tensor, bias: Tensor,
            radial: Tensor | None, written: Tensor | None, gate: Tensor | None, threshold: Tensor | None,
            norm: Norm, radius: Radius) -> Tensor:
    """The map of `LowRankEdit` on [tokens, d_model] or [rows, tokens, d_model]."""
    wide = h.to(read.dtype)
    few = read.shape[-2] <= FEW
    c = _read(wide, read, few) + spread(bias, 1)
    u = _read(c, gain, few) + spread(offset, 1)
    if radial is not None and written is not None:
        counted = c * spread(written, 1)
        if radius == "plane":
            length = counted.norm(dim=-1, keepdim=True)
        else:
            length = (wide - _written(counted, read, few)).norm(dim=-1, keepdim=True)
            length = torch.where(length > rounding(wide), length, 0)
        u = u + length * spread(radial, 1)
    if gate is not None and threshold is not None:
        signs = spread(gate, 2)
        margin = signs * (c - spread(threshold, 1)).unsqueeze(-2)
        u = torch.where(((margin > 0) | (signs == 0)).all(-1), u, 0)
    delta = _written(u, write, few)
    if norm != "none":
        delta = with_norm_rule(delta, wide, norm)
    return h + delta.to(h.dtype)


def _read(h: Tensor, lines: Tensor, few: bool) -> Tensor:
    """h lines^T, over the last axis."""
    return (h.unsqueeze(-2) * spread(lines, 2)).sum(-1) if few else h @ lines.mT


def _written(u: Tensor, lines: Tensor, few: bool) -> Tensor:
    """u lines."""
    return (u.unsqueeze(-1) * spread(lines, 2)).sum(-2) if few else u @ lines
