"""Run tasks through lm-eval and keep the score of every item."""

import logging
import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lenssteer.artefacts.unfinished import Unfinished
from lenssteer.errors import ParameterError
from lenssteer.evals.benchmarks.retention import scored
from lenssteer.evals.benchmarks.tasks import Benchmark

if TYPE_CHECKING:
    from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM


@dataclass(frozen=True)
class Protocol:
    """What both runs of a comparison share.

    Args:
        limit: First items of every task; None for all.
        chat: Whether questions are put into the model's chat template or pattern.
        seed: Of the choice of examples.
    """

    limit: int | None = None
    chat: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ParameterError(f"limit must be at least 1, got {self.limit}.")


@dataclass(frozen=True)
class Scores:
    """One metric of one benchmark, item by item.

    Args:
        benchmark: Name that was asked for.
        metric: Name in lm-eval, with the filter behind a comma where there are several.
        items: Task, number and content hash of every item.
        values: Score of every item; None where it has none.
        chances: Score of a uniform guess; None where there is no such thing.
        tied: Items at which several choices are most likely, where the score depends on which is; lm-eval then takes
            the first of them.
        aggregate: What lm-eval makes of the scores, of the last task.
    """

    benchmark: str
    metric: str
    items: list[str]
    values: list[float | None]
    chances: list[float | None]
    tied: int
    aggregate: float | None


@dataclass(frozen=True)
class Measured:
    """What a run of one task gave, and what it took.

    Args:
        scores: One for each metric.
        left_out: Metrics of which a share means nothing.
        counts: See `SteeredLM`.
        receipts: As `Receipt.as_dict` writes them, each with its kind of request.
        seconds: Of the run.
    """

    scores: list[Scores]
    left_out: list[str]
    counts: dict[str, int]
    receipts: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Run:
    """All scores of a run, and what it took."""

    scores: dict[tuple[str, str], Scores]
    tasks: list[Measured]

    @property
    def seconds(self) -> float:
        """Over all processes that measured for it."""
        return sum(one.seconds for one in self.tasks)

    @property
    def counts(self) -> dict[str, int]:
        """Tokens read and generated, and requests shortened."""
        return {name: sum(one.counts[name] for one in self.tasks) for name in self.tasks[0].counts}

    @property
    def left_out(self) -> list[str]:
        """Metrics of which a share means nothing."""
        return [name for one in self.tasks for name in one.left_out]

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """What the steerer did in each request of each task."""
        return [receipt for one in self.tasks for receipt in one.receipts]


def run_benchmarks(lm: "SteeredLM", benchmarks: Sequence[Benchmark], protocol: Protocol,
                   kept: Unfinished | None = None, about: Mapping[str, Any] = MappingProxyType({})) -> Run:
    """Every item of every benchmark, once.

    Metrics that are not numbers an item, may be negative, or are better when lower are left out: a share of them means
    nothing.

    Args:
        lm: What is asked.
        benchmarks: The tasks.
        protocol: How they are asked.
        kept: Tasks that an earlier process finished, and where this one keeps each that it finishes.
        about: What `kept` cannot know of the model, its steerer and its batches.

    Raises:
        ParameterError: when a benchmark has no metric left.
        FileError: when what is kept cannot be written or read.
    """
    scores: dict[tuple[str, str], Scores] = {}
    tasks: list[Measured] = []
    for benchmark in benchmarks:
        found = [_task(lm, benchmark, name, protocol, kept, about) for name in benchmark.tasks]
        tasks += found
        together = _together([one for task in found for one in task.scores])
        if not together:
            raise ParameterError(f"{benchmark.name} has no score an item of which a share could be retained.")
        scores |= {(benchmark.name, metric): one for metric, one in together.items()}
    return Run(scores, tasks)


def _task(lm: "SteeredLM", benchmark: Benchmark, name: str, protocol: Protocol, kept: Unfinished | None,
          about: Mapping[str, Any]) -> Measured:
    """One task, measured now or by an earlier process."""
    if kept is None:
        return _measured(lm, benchmark, name, protocol)
    shots = benchmark.tasks[name].get_config("num_fewshot")
    key = kept.key(about=about, protocol=asdict(protocol), benchmark=benchmark.name, source=benchmark.source, task=name,
                   shots=shots, pattern=lm.pattern, lenssteer=version("lenssteer"), lm_eval=version("lm_eval"))
    for earlier in kept.found(key):
        return Measured(**{**earlier, "scores": [Scores(**one) for one in earlier["scores"]]})
    found = _measured(lm, benchmark, name, protocol)
    kept.keep(key, asdict(found))
    return found


def _measured(lm: "SteeredLM", benchmark: Benchmark, name: str, protocol: Protocol) -> Measured:
    started, before, receipts = perf_counter(), dict(lm.counts), len(lm.receipts)
    left_out: list[str] = []
    scores = list(_collect(benchmark.name, name, benchmark.tasks[name], _evaluate(lm, benchmark.tasks[name], name,
                                                                                  protocol), left_out))
    counts = {key: count - before[key] for key, count in lm.counts.items()}
    told = [{"request": kind, **receipt.as_dict()} for kind, receipt in lm.receipts[receipts:]]
    return Measured(scores, left_out, counts, told, perf_counter() - started)


def _evaluate(lm: "SteeredLM", task: Any, name: str, protocol: Protocol) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    task.set_fewshot_seed(seed=protocol.seed)
    with quiet():
        found = evaluate(lm, {"tasks": {name: task}, "groups": {}}, limit=protocol.limit, bootstrap_iters=0,
                         apply_chat_template=protocol.chat, fewshot_as_multiturn=lm.pattern is None)
    return {**(found or {})}


def _collect(benchmark: str, name: str, task: Any, found: dict[str, Any], left_out: list[str]) -> Iterator[Scores]:
    samples = found["samples"][name]
    filters = {sample["filter"] for sample in samples}
    by_metric: dict[str, list[tuple[dict[str, Any], Any]]] = defaultdict(list)
    for sample in samples:
        for metric in sample["metrics"]:
            label = metric if len(filters) == 1 else f"{metric},{sample['filter']}"
            by_metric[label].append((sample, sample[metric]))
    for metric, pairs in by_metric.items():
        base, _, chosen = metric.partition(",")
        if not task.higher_is_better().get(base, True) or not all(_share(value) for _, value in pairs):
            left_out.append(f"{name} {metric}")
            continue
        aggregate = found["results"][name].get(f"{base},{chosen or next(iter(filters))}")
        yield Scores(benchmark, metric,
                     [f"{name}/{sample['doc_id']}/{sample['doc_hash'][:12]}" for sample, _ in pairs],
                     [float(value) if scored(value) else None for _, value in pairs],
                     [chance(task, sample["doc"]) for sample, _ in pairs],
                     sum(_tied(task, sample) for sample, _ in pairs),
                     aggregate if isinstance(aggregate, int | float) and math.isfinite(aggregate) else None)


def _together(scores: Sequence[Scores]) -> dict[str, Scores]:
    """The scores of all tasks of a benchmark by metric; of the aggregate, that of the last task."""
    found: dict[str, Scores] = {}
    for one in scores:
        before = found.get(one.metric)
        found[one.metric] = one if before is None else Scores(
            one.benchmark, one.metric, before.items + one.items, before.values + one.values,
            before.chances + one.chances, before.tied + one.tied, one.aggregate)
    return found


def _share(value: Any) -> bool:
    return value is None or (not isinstance(value, tuple | list | str | dict) and not float(value) < 0)


def _tied(task: Any, sample: dict[str, Any]) -> bool:
    if task.OUTPUT_TYPE != "multiple_choice" or task.config.process_results is not None:
        return False
    totals = [total for total, _ in sample["filtered_resps"]]
    return totals.count(max(totals)) > 1


def chance(task: Any, document: dict[str, Any]) -> float | None:
    """Expected score of a uniform guess: one choice of all, or for MC2 the share of choices that are true.

    A model that knows nothing may lie above or below it, since likelihoods favour short choices.
    """
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    if task.config.process_results is None:
        return 1 / len(task.doc_to_choice(document))
    labels = document.get("mc2_targets", {}).get("labels")
    return sum(labels) / len(labels) if labels else None


@contextmanager
def quiet() -> Iterator[None]:
    """lm-eval without its log, its bars and the warnings of what it imports."""
    import lm_eval.api.task as building

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", *_loggers())]
    levels, bar = [logger.level for logger in loggers], building.tqdm
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        building.tqdm = partial(bar, disable=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        building.tqdm = bar
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _loggers() -> list[str]:
    return [name for name in sys.modules if name.startswith("lm_eval.")]
