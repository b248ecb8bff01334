"""What runs on a worker: one model at a time, and functions of it."""

import os
import socket
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lenssteer.errors import LenssteerError
from lenssteer.models import LensModel, ModelCard, load_model
from lenssteer.models.loading import DEMOS

SAME = ("lenssteer", "torch", "transformers", "transformer-lens")
"""Packages of which driver and workers must have the same version."""


@dataclass(frozen=True)
class ModelSpec:
    """A model that every worker loads for itself; see `models.load_model`.

    Args:
        name: "demo", "demo-chat", a local folder that every node has, or a hub id.
        backend: "hooked", "bridge" or "hf".
        device: As a worker sees it; "cuda" with GPUs.
        dtype: "float32", "bfloat16", "float16" or "float64".
        template: Prompt format unless a call says otherwise.
    """

    name: str
    backend: str = "hf"
    device: str = "cpu"
    dtype: str = "float32"
    template: str = "auto"

    @property
    def place(self) -> str:
        """The name, or the whole path of a local folder: a worker runs in another one."""
        local = self.name not in DEMOS and Path(self.name).is_dir()
        return str(Path(self.name).absolute()) if local else self.name


@dataclass(frozen=True)
class Started:
    """What a worker says of itself before it is given work."""

    node: str
    versions: dict[str, str]
    threads: int


@dataclass(frozen=True, eq=False)
class Done:
    """What a worker returns."""

    value: Any
    card: ModelCard
    warned: Sequence[tuple[type[UserWarning], str]]


@dataclass(frozen=True)
class Failed:
    """An error of a worker as text; its class by name, where it is one of lenssteer's."""

    kind: str
    message: str
    node: str


def versions() -> dict[str, str]:
    """The versions that must be the same everywhere; "absent" where a package is not installed."""
    return {name: _version(name) for name in SAME}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


class Worker:
    """One process of the cluster; holds the model it was last asked for.

    Args:
        threads: Of torch, so that workers of one machine do not fight for its cores.
    """

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.node = socket.gethostname()
        self.held: tuple[ModelSpec, LensModel] | None = None

    def start(self) -> Started:
        """Say where and what this is."""
        import torch

        return Started(f"{self.node}, process {os.getpid()}", versions(), torch.get_num_threads())

    def run(self, spec: ModelSpec, place: str, work: Callable[..., Any], *args: Any) -> Done | Failed:
        """Call `work(model, *args)`.

        Args:
            spec: Of the model.
            place: Where it is loaded from.
            work: A function of a module that workers can import.
            *args: Its other arguments.
        """
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                model = self._model(spec, place)
                value = work(model, *args)
            warned = {(one.category, str(one.message)): None for one in caught
                      if issubclass(one.category, UserWarning)}
            return Done(value, replace(model.card, name=spec.name), list(warned))
        except LenssteerError as error:
            return Failed(type(error).__name__, str(error), self.node)
        except Exception:
            return Failed("", traceback.format_exc(), self.node)

    def _model(self, spec: ModelSpec, place: str) -> LensModel:
        """The model held, or another in its place: two may not fit."""
        if self.held is None or self.held[0] != spec:
            self.held = None
            self.held = spec, load_model(place, backend=spec.backend, device=spec.device, dtype=spec.dtype,
                                         template=spec.template)
        return self.held[1]
