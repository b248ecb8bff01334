"""`--ray`: the pool and the model that a command asks for."""

from typing import Any

from lenssteer.cli.options import Backend


def pool_of(address: str, workers: int | None, gpus: float | None, device: str) -> Any:
    """The workers a command names; a CUDA device gives each a GPU unless it says otherwise."""
    from lenssteer.cluster import Pool

    each = gpus if gpus is not None else float(device.startswith("cuda"))
    return Pool(address, workers=workers, gpus_per_worker=each)


def spec_of(name: str, backend: Backend, device: str, dtype: str, template: str | None) -> Any:
    """The model a command names, as workers load it."""
    from lenssteer.cluster import ModelSpec

    return ModelSpec(name, backend.value, device, dtype, template or "auto")
