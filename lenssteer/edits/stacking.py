"""Arrays of several edits to arrays with a `rows` axis."""

import torch
from torch import Tensor


def padded(arrays: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Fill every rank axis up to `rank` with zeros."""
    missing = rank - arrays["offset"].shape[-1]
    pads = {"read": (0, 0, 0, missing), "write": (0, 0, 0, missing),
            "gain": (0, missing, 0, missing), "gate": (0, missing, 0, missing)}
    return {name: torch.nn.functional.pad(t, pads.get(name, (0, missing))) for name, t in arrays.items()}


def stacked(tensors: list[Tensor], counts: list[int], core_dims: int) -> Tensor:
    """One array, shared where it is the same for all edits, else with `counts[i]` rows of `tensors[i]`."""
    first = tensors[0]
    if first.ndim == core_dims and all(t is first or (t.shape == first.shape and torch.equal(t, first))
                                       for t in tensors[1:]):
        return first
    rows = [t if t.ndim > core_dims else t.expand(n, *t.shape) for t, n in zip(tensors, counts, strict=True)]
    return torch.cat(rows)
