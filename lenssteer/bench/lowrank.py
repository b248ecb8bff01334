"""(d) One edit against the dense d x d form of the papers, and against a copy of the activation."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import Ratio, ratio
from lenssteer.edits import LowRankEdit, apply_edit, rotate_by
from lenssteer.maths import random_plane

FLOPS_TARGET, TIME_TARGET = 50.0, 20.0
COPY_TARGETS = {"cpu": 4.0, "cuda": 1.5}
D_MODEL, TOKENS = 4096, 512
GPU_TOKENS = 8192
DEGREES = 200.0


def lowrank(stand: Stand) -> Iterator[Found]:
    """FLOPs and seconds of the dense form over those of the edit; seconds of the edit over those of a copy."""
    d_model = 256 if stand.quick else D_MODEL
    on_gpu = stand.device.startswith("cuda")
    tokens = 32 if stand.quick else GPU_TOKENS if on_gpu else TOKENS
    with torch.no_grad():
        edit = rotate_by(random_plane(d_model, 0), degrees=DEGREES).to(stand.device, torch.float32)
        h = torch.randn(tokens, d_model, generator=torch.Generator().manual_seed(0)).to(stand.device, stand.torch_dtype)
        yield Found({"dense_over_lowrank_flops": flops_ratio(edit, tokens)})
        matrix = dense(edit).to(h.dtype)
        what = f"at {tokens} tokens of width {d_model}, {stand.dtype}, {stand.device}"
        yield Found({"dense_over_lowrank": ratio(
            lambda: h @ matrix, lambda: apply_edit(edit, h), f"a dense rotation over the edit {what}",
            repeats=stand.repeats, calls=2, target=TIME_TARGET, better="higher", clock=stand.clock)})
        yield Found({"apply_over_copy": ratio(
            lambda: apply_edit(edit, h), lambda: h.clone(), f"the edit over a copy of the activation {what}",
            repeats=3 * stand.repeats, calls=10, warm=3, target=COPY_TARGETS.get(h.device.type), clock=stand.clock)})


def dense(edit: LowRankEdit) -> Float[Tensor, "d_model d_model"]:
    """The matrix M with h' = h M, of an edit without gate, radius and offset.

        M = I + read^T gain^T write
    """
    eye = torch.eye(edit.d_model, dtype=edit.read.dtype, device=edit.read.device)
    return eye + edit.read.mT @ edit.gain.mT @ edit.write


def dense_flops(d_model: int, tokens: int) -> int:
    """Multiplications and additions of h M."""
    return 2 * tokens * d_model**2


def lowrank_flops(edit: LowRankEdit, tokens: int) -> int:
    """Multiplications and additions of reading, updating and writing, without gate, radius and norm rule.

        2 n r d + 2 n r r + 2 n r d
    """
    return 2 * tokens * edit.rank * (2 * edit.d_model + edit.rank)


def flops_ratio(edit: LowRankEdit, tokens: int) -> Ratio:
    """By count: nothing is timed."""
    over, under = dense_flops(edit.d_model, tokens), lowrank_flops(edit, tokens)
    found = Ratio(over / under, over / under, over / under, 1, None, over, under,
                  f"floating point operations of {tokens} tokens, counted", FLOPS_TARGET, "higher")
    return replace(found, more={"unit": "operations"})
