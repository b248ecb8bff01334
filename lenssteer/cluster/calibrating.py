"""Calibrations of one or several models over a cluster."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lenssteer.cluster.capturing import cluster_moments, cluster_samples, in_order
from lenssteer.cluster.pool import Pool
from lenssteer.cluster.remote import remote_models
from lenssteer.cluster.task import Task
from lenssteer.cluster.worker import ModelSpec
from lenssteer.models import LensModel
from lenssteer.prompts import AnswerContrast, ContrastSet
from lenssteer.recipe import Calibration, calibrate


def cluster_calibrate(pool: Pool, models: Sequence[ModelSpec], contrast: ContrastSet | AnswerContrast, *,
                      batch_tokens: int | None = None, progress: str = "", **options: Any) -> list[Calibration]:
    """What `calibrate` gives for every model.

    Where there are as many models as workers, each is calibrated by one of them. Otherwise the prompts of a model are
    split: with the batches of one process, which are the default, and as many threads, samples and moments are those
    of one process bit for bit. Moments are merged in the order of the batches, whoever finished first.

    Args:
        pool: Of the workers.
        models: What they load.
        contrast: Positive and negative prompts, or exchanges.
        batch_tokens: Most padded tokens of a batch; None for the batches of one process. Smaller ones spread further,
            and activations then differ as between any two batch sizes: by rounding of float32.
        progress: Label of a progress bar; "" for none.
        **options: Of `calibrate`: sites, at, rule, template, system, scatter, samples, finder, plane.

    Raises:
        PromptError, SiteError, DirectionError, SteeringError: see `calibrate`.
    """
    if len(models) >= pool.staff.workers and batch_tokens is None:
        tasks = [Task(spec, whole_calibration, (contrast, options)) for spec in models]
        found = list(in_order(pool, tasks, progress))
        return [replace(one, card=replace(one.card, name=spec.name)) for one, spec in zip(found, models, strict=True)]
    spread = {"batch_tokens": batch_tokens}
    readers = (partial(cluster_samples, pool, **spread), partial(cluster_moments, pool, **spread))
    return [calibrate(model, contrast, readers=readers, progress=progress, **options)
            for model in remote_models(pool, models)]


def whole_calibration(model: LensModel, contrast: ContrastSet | AnswerContrast, options: dict[str, Any]) -> Calibration:
    """On a worker: one calibration."""
    return calibrate(model, contrast, **options)
