"""Activations read by workers: the batches of one process, each on one worker, put together in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenssteer.capture import ClassMoments, ClassSamples, ReadAt, activations
from lenssteer.capture.capture import HELD_VALUES
from lenssteer.capture.encoding import encode_contrast
from lenssteer.cluster.pool import Pool
from lenssteer.cluster.remote import RemoteModel
from lenssteer.cluster.task import Task
from lenssteer.maths import Moments
from lenssteer.models import LensModel
from lenssteer.models.sizing import fitting
from lenssteer.progress import track
from lenssteer.prompts import AnswerContrast, ContrastSet, Encoded
from lenssteer.site import Site

Parts = dict[str, Moments]


def cluster_activations(
    pool: Pool, model: RemoteModel, encoded: Sequence[Encoded], sites: Sequence[Site], at: ReadAt, *,
    batch_tokens: int | None = None, progress: str = "",
) -> Iterator[tuple[Int[Tensor, " batch"], Float[Tensor, "sites batch d_model"]]]:
    """What `capture.activations` gives, in the same order, with one batch a task; an `ActivationStore` can be written
    from it.

    Args:
        pool: Of the workers.
        model: Unsteered.
        encoded: Prompts.
        sites: Any order; the leading axis follows it.
        at: Which token, or span, of each prompt.
        batch_tokens: Most padded tokens of a batch; None for the batches of one process. Fewer make more tasks.
        progress: Label of a progress bar; "" for none.

    Raises:
        SteeringError: when an activation is not finite.
    """
    groups = pool.one(model.task(batches_of, list(encoded), batch_tokens))
    tasks = [model.task(read_batch, [encoded[i] for i in group], tuple(sites), at) for group in groups]
    for group, read in zip(groups, in_order(pool, tasks, progress), strict=True):
        yield torch.tensor(group), read


def cluster_samples(pool: Pool, model: RemoteModel, contrast: ContrastSet | AnswerContrast, sites: Sequence[Site],
                    at: ReadAt, *, template: str | None = None, system: str | None = None,
                    batch_tokens: int | None = None, progress: str = "") -> ClassSamples:
    """What `capture_samples` gives; see there."""
    sites = tuple(sorted(sites))
    encoded = encode_contrast(model, contrast, template=template, system=system, at=at)
    read = torch.empty(len(sites), len(encoded), model.card.d_model)
    for rows, batch in cluster_activations(pool, model, encoded, sites, at, batch_tokens=batch_tokens,
                                           progress=progress):
        read[:, rows] = batch
    n = len(contrast.positive)
    return ClassSamples(sites, read[:, :n], read[:, n:])


def cluster_moments(pool: Pool, model: RemoteModel, contrast: ContrastSet | AnswerContrast, sites: Sequence[Site],
                    at: ReadAt, *, template: str | None = None, system: str | None = None, scatter: bool = False,
                    batch_tokens: int | None = None, progress: str = "") -> ClassMoments:
    """What `capture_moments` gives; each task reads what one process merges at once, and tasks are merged in order."""
    sites = tuple(sorted(sites))
    encoded = encode_contrast(model, contrast, template=template, system=system, at=at)
    groups = pool.one(model.task(batches_of, encoded, batch_tokens))
    tasks = []
    for held in _merged_at_once(groups, len(sites) * model.card.d_model):
        marks = torch.tensor([i < len(contrast.positive) for group in held for i in group])
        tasks.append(model.task(read_moments, [[encoded[i] for i in group] for group in held], marks, sites, at,
                                scatter))
    totals: Parts = {}
    for part in in_order(pool, tasks, progress):
        totals |= {name: totals[name] + one if name in totals else one for name, one in part.items()}
    return ClassMoments(sites, **totals)


def in_order(pool: Pool, tasks: Sequence[Task], progress: str = "") -> Iterator[Any]:
    """The results of tasks in the order of the tasks, whoever finished first."""
    early: dict[int, Any] = {}
    results = pool.run([replace(task, key=number) for number, task in enumerate(tasks)])
    for number in track(range(len(tasks)), progress):
        while number not in early:
            task, value = next(results)
            early[task.key] = value
        yield early.pop(number)


def _merged_at_once(groups: Sequence[Sequence[int]], values: int) -> list[list[Sequence[int]]]:
    """Batches that one process holds before it merges them; `values` is what one prompt holds."""
    found: list[list[Sequence[int]]] = [[]]
    for group in groups:
        if sum(map(len, found[-1])) * values >= HELD_VALUES:
            found.append([])
        found[-1].append(group)
    return found


def batches_of(model: LensModel, encoded: list[Encoded], batch_tokens: int | None) -> list[list[int]]:
    """On a worker: the batches that one process would read."""
    return [group for group, _ in fitting(model, encoded, lambda group: group, tokens=batch_tokens)]


def read_batch(model: LensModel, encoded: list[Encoded], sites: tuple[Site, ...],
               at: ReadAt) -> Float[Tensor, "sites batch d_model"]:
    """On a worker: one batch, in the order given."""
    read = torch.empty(len(sites), len(encoded), model.card.d_model)
    for rows, part in activations(model, encoded, sites, at, batch_size=len(encoded)):
        read[:, rows] = part
    return read


def read_moments(model: LensModel, groups: list[list[Encoded]], is_positive: Bool[Tensor, " prompts"],
                 sites: tuple[Site, ...], at: ReadAt, scatter: bool) -> Parts:
    """On a worker: moments of each class that the batches hold, by their names in `ClassMoments`."""
    read = torch.cat([read_batch(model, group, sites, at) for group in groups], 1)
    unit = read / read.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    found: Parts = {}
    for name, chosen in (("positive", is_positive), ("negative", ~is_positive)):
        if chosen.any():
            found |= {name: Moments.of(read[:, chosen], scatter=scatter),
                      name + "_unit": Moments.of(unit[:, chosen], scatter=False)}
    return found
