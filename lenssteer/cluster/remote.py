"""A model whose weights are on the workers, as the driver sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenssteer.cluster.pool import Pool
from lenssteer.cluster.task import Task
from lenssteer.cluster.worker import ModelSpec
from lenssteer.errors import ModelError, ParameterError
from lenssteer.models import LensModel, ModelCard
from lenssteer.models.protocol import Detach, Edit, Keep
from lenssteer.prompts import Columns
from lenssteer.site import Site, Stream


@dataclass(eq=False)
class Elsewhere:
    """What there is to know of a backend without its weights; whatever needs them is refused."""

    card: ModelCard
    streams: tuple[Stream, ...]
    device: torch.device

    def attach(self, site: Site, edit: Edit) -> Detach:
        """Refused.

        Raises:
            ModelError: always.
        """
        raise self._refusal(f"hook {site}")

    def new_cache(self, batch: int) -> Any:
        """Refused.

        Raises:
            ModelError: always.
        """
        raise self._refusal("fill a cache")

    def take_rows(self, cache: Any, index: Int[Tensor, " picked"]) -> Any:
        """Refused.

        Raises:
            ModelError: always.
        """
        raise self._refusal("fill a cache")

    def fork(self, layer: int, copies: Int[Tensor, " batch"], cache: Any) -> None:
        """None: there is no cache to fork."""

    def forward(self, ids: Int[Tensor, "batch chunk"], mask: Bool[Tensor, "batch seen"], cache: Any = None,
                keep: Keep = "last") -> Float[Tensor, "rows kept vocab"]:
        """Refused.

        Raises:
            ModelError: always.
        """
        raise self._refusal("run a pass")

    def _refusal(self, what: str) -> ModelError:
        return ModelError(f"cannot {what} here: the weights of {self.card.name} are on the workers of a cluster. Give "
                          "the pool a task, or load the model in this process.")


class RemoteModel(LensModel):
    """A model that knows its card, sites and tokenizer here and runs unsteered passes on a worker.

    Args:
        pool: Of the workers.
        spec: The model.
        told: What `described` tells of it.
    """

    def __init__(self, pool: Pool, spec: ModelSpec, told: tuple[Elsewhere, Any, frozenset[int], str]) -> None:
        backend, tokenizer, stop_ids, template = told
        super().__init__(replace(backend, card=replace(backend.card, name=spec.name)), tokenizer, stop_ids, template)
        self.pool = pool
        self.spec = spec

    def run(self, ids: Int[Tensor, "batch chunk"], columns: Columns, cache: Any = None,
            keep: Keep = "last") -> Float[Tensor, "batch kept vocab"]:
        """One unsteered pass on a worker, without a cache.

        Raises:
            ModelError: when a cache is given.
        """
        if cache is not None:
            return self.backend.forward(ids, columns.mask, cache, keep)
        return self.pool.one(Task(self.spec, plain_pass, (ids, columns, keep)))

    def task(self, work: Callable[..., Any], *args: Any) -> Task:
        """Work on this model."""
        return Task(self.spec, work, args)


def remote_models(pool: Pool, specs: Sequence[ModelSpec]) -> list[RemoteModel]:
    """Models of a pool; one worker loads each to say what it is.

    Raises:
        ParameterError: when there is none, or one stands twice.
        ModelError: when a worker cannot load one.
    """
    if not specs or len(set(specs)) < len(specs):
        named = ", ".join(spec.name for spec in specs) or "none"
        raise ParameterError(f"expected different models, at least one; got {named}.")
    told = {task.model: value for task, value in pool.run([Task(spec, described) for spec in specs])}
    return [RemoteModel(pool, spec, told[spec]) for spec in specs]


def described(model: LensModel) -> tuple[Elsewhere, Any, frozenset[int], str]:
    """On a worker: what the driver needs to know of a model."""
    backend = Elsewhere(model.card, model.backend.streams, model.device)
    return backend, model.tokenizer, model.stop_ids, model.template


def plain_pass(model: LensModel, ids: Int[Tensor, "batch chunk"], columns: Columns,
               keep: Keep) -> Float[Tensor, "batch kept vocab"]:
    """On a worker: one unsteered pass."""
    return model.run(ids, columns, keep=keep).cpu()
