"""Memory: what is free, what a row of a batch takes, and how a device says that there is none left."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lenssteer.models.lens import LensModel

ASSUMED = 4 * 2**30
"""Bytes taken to be free where the system does not say."""
FULL = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator",
        "cublas_status_alloc_failed")
"""What torch says of memory, on CPU, CUDA and MPS, in errors that have no class of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in FULL)


def free_bytes(device: torch.device) -> int:
    """Bytes that a batch could take: of a CUDA device, or of the machine within the limit of its control group."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    found = [free for free in (_available(), _within_group()) if free is not None]
    return min(found, default=ASSUMED)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return None


def _within_group(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container may still take; None where there is no limit."""
    try:
        most, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return None if most.strip() == "max" else max(int(most) - int(used), 0)
    except (OSError, ValueError):
        return None


@contextmanager
def peak(device: torch.device) -> Iterator[Callable[[], int]]:
    """Afterwards, what a block took at most, in bytes; 0 on devices that do not tell."""
    if device.type != "cuda":
        yield lambda: 0
        return
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield lambda: torch.cuda.max_memory_allocated(device) - before


def bytes_a_row(model: LensModel, width: int, new: int, every_column: bool) -> int:
    """What one row takes, by the model's config: keys and values, the widest layer's activations, and logits.

        2 L kv (width + new)  +  width (8 d_model + 3 d_mlp + 2 heads width)  +  3 vocab columns      numbers

    The second term is the prompt's pass with attention written out; kernels that do not write it take less.

    Args:
        model: Its config is read; where a width is not there, the widest usual one is taken.
        width: Tokens of the prompt.
        new: Tokens of the answer; without any, no keys and values are kept.
        every_column: Whether logits of all columns are kept.
    """
    config = config_of(model)
    d_model, n_layers = model.card.d_model, model.card.n_layers
    heads = _named(config, ("num_attention_heads", "n_head", "n_heads"), max(d_model // 64, 1))
    d_head = _named(config, ("head_dim", "d_head"), d_model // heads)
    kv = _named(config, ("num_key_value_heads", "n_key_value_heads"), heads) * d_head
    d_mlp = _named(config, ("intermediate_size", "n_inner", "d_mlp"), 4 * d_model)
    vocab = _named(config, ("vocab_size", "d_vocab"), len(model.tokenizer))
    cache = 2 * n_layers * kv * (width + new) if new else 0
    widest = width * (8 * d_model + 3 * d_mlp + 2 * heads * width)
    return _value_bytes(model) * (cache + widest) + 4 * 3 * vocab * (width + new if every_column else 1)


def config_of(model: LensModel) -> Any:
    """The config of the model below a backend; None where it has none."""
    inner = getattr(model.backend, "model", None)
    inner = getattr(inner, "original_model", inner)
    config: Any = getattr(inner, "config", None) or getattr(inner, "cfg", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _named(config: Any, names: tuple[str, ...], otherwise: int) -> int:
    """The first of some numbers that a config gives."""
    return next((int(value) for name in names if (value := getattr(config, name, None))), otherwise)


def _value_bytes(model: LensModel) -> int:
    parameters = getattr(getattr(model.backend, "model", None), "parameters", None)
    first = next(iter(parameters()), None) if parameters is not None else None
    return first.element_size() if first is not None else 4
