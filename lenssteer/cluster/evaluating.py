"""Benchmarks over a cluster."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lenssteer.cluster.pool import Pool
from lenssteer.cluster.remote import remote_models
from lenssteer.cluster.worker import ModelSpec
from lenssteer.evals.benchmarks import measure_capability
from lenssteer.evals.benchmarks.packages import needed
from lenssteer.steering import Steerer


def cluster_capability(pool: Pool, model: ModelSpec, names: Sequence[str], steerer: Steerer | None = None,
                       **options: Any) -> dict[str, Any]:
    """What `measure_capability` gives: the same items with the same scores, so the same intervals.

    Args:
        pool: Of the workers; they need neither lm-eval nor the data.
        model: What they load.
        names: Of tasks.
        steerer: None measures the unsteered model alone.
        **options: Of `measure_capability`: data, shots, limit, chat, seed, batch_size, progress. A batch is a task, so
            a smaller `batch_size` spreads further.

    Raises:
        PromptError, ParameterError, LenssteerError: see `measure_capability`.
    """
    needed("lm_eval")
    from lenssteer.cluster.lm import ClusterLM

    [remote] = remote_models(pool, [model])
    return measure_capability(remote, names, steerer, lm=partial(ClusterLM, pool), **options)
