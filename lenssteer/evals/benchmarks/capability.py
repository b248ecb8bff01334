"""Capability under a steerer: the same items unsteered and steered, and what is retained."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenssteer.artefacts.unfinished import Unfinished
from lenssteer.engines.engine import Engine
from lenssteer.errors import ParameterError
from lenssteer.evals.benchmarks.packages import needed
from lenssteer.evals.benchmarks.retention import retention, scored
from lenssteer.evals.benchmarks.run import Protocol, Run, Scores, quiet, run_benchmarks
from lenssteer.evals.benchmarks.saved import identity, refuse_rows
from lenssteer.evals.benchmarks.tasks import Benchmark, load_benchmarks
from lenssteer.evals.bootstrap import paired_difference
from lenssteer.models import LensModel
from lenssteer.prompts import refuse_seen
from lenssteer.steering import Steerer

if TYPE_CHECKING:
    from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM

QUESTIONS = ("prompt", "question", "instruction", "text", "query", "goal", "sentence", "ctx", "input")


def measure_capability(model: LensModel | Engine, names: Sequence[str], steerer: Steerer | None = None, *,
                       data: Path | str | None = None, shots: int | None = None, limit: int | None = None,
                       chat: bool = False, seed: int = 0, batch_size: int | None = None,
                       progress: bool = False, lm: "Callable[..., SteeredLM] | None" = None,
                       kept: Unfinished | None = None) -> dict[str, Any]:
    """Run tasks unsteered and steered, and compare them item by item.

    Args:
        model: Unsteered, in this process or an engine's; its `template` counts when `chat` is true.
        names: Of tasks; see `tasks.KNOWN`, or any task of lm-eval.
        steerer: None measures the unsteered model alone.
        data: Folder of local files.
        shots: Examples before each question, in place of the usual number.
        limit: First items of each task.
        chat: Whether questions are put into the chat template or pattern; lm-eval's default is not to.
        seed: Of examples, sampling and bootstrap.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        progress: Whether to show bars.
        lm: Makes what lm-eval asks, with the arguments of `SteeredLM`, which is the default in this process.
        kept: Tasks that an earlier process finished, and where this one keeps each that it finishes; see `unfinished`.

    Returns:
        A dictionary for JSON. `rows` has one entry a task and metric: means, the paired difference and retention with
        95 % intervals, n, unscored, chance. `items` has every score, so that two runs can be paired later.

    Raises:
        PromptError: when a task is unknown, its data are absent, or the steerer was fitted on its items.
        ParameterError: when a setting is out of range.
        FileError: when what is kept cannot be written or read.
        LenssteerError: when lm-eval is not installed.
    """
    protocol = Protocol(limit, chat, seed)
    needed("lm_eval")
    from lenssteer.evals.benchmarks.engine_model import EngineLM
    from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM

    if not names:
        raise ParameterError("no task was named; for example mmlu_sample.")
    refuse_rows(steerer)
    with quiet():
        benchmarks = load_benchmarks(names, data=data, shots=shots)
    estimated = [benchmark.name for benchmark in benchmarks if benchmark.estimated]
    if estimated and limit is not None:
        raise ParameterError(f"tinyBenchmarks estimates {', '.join(estimated)} from all items; leave out limit.")
    if steerer is not None:
        steerer.check(model)
        _refuse_fitted(steerer, benchmarks, limit)
    made = lm or (SteeredLM if isinstance(model, LensModel) else EngineLM)
    lms = {"unsteered": made(model, batch_size=batch_size, seed=seed, progress=progress)}
    if steerer is not None:
        lms["steered"] = made(model, steerer, batch_size=batch_size, seed=seed, progress=progress)
    about = {"card": asdict(model.card), "seed": seed, "batch_size": batch_size}
    runs = {setting: run_benchmarks(lm, benchmarks, protocol, kept,
                                    {**about, "steerer": identity(lm.steerer)} if kept else {})
            for setting, lm in lms.items()}
    return {
        "model": asdict(model.card), "steerer": None if steerer is None else _plain(steerer.provenance),
        "where": None if steerer is None else str(steerer.where), "template": model.template if chat else None,
        "seed": seed, "limit": limit, "rows": list(_rows(benchmarks, runs, seed)),
        "seconds": {setting: run.seconds for setting, run in runs.items()},
        "tokens": {setting: run.counts for setting, run in runs.items()},
        "left_out": runs["unsteered"].left_out,
        "receipts": [receipt for run in runs.values() for receipt in run.receipts], "items": _items(runs),
    }


def _refuse_fitted(steerer: Steerer, benchmarks: Sequence[Benchmark], limit: int | None) -> None:
    """Refuse items whose question the steerer was fitted or chosen on."""
    seen: Collection[str] = steerer.provenance.get("calibration", {}).get("seen", [])
    for benchmark in benchmarks:
        for task in benchmark.tasks.values():
            texts = [text for _, document in task.doc_iterator(limit=limit) for text in _questions(task, document)]
            refuse_seen(seen, texts, f"the steerer ({benchmark.name})")


def _questions(task: Any, document: Mapping[str, Any]) -> Iterator[str]:
    texts = (task.doc_to_text(document), *(document.get(key) for key in QUESTIONS))
    yield from (text for text in texts if isinstance(text, str) and text.strip())


def _rows(benchmarks: Sequence[Benchmark], runs: dict[str, Run], seed: int) -> Iterator[dict[str, Any]]:
    about = {benchmark.name: benchmark for benchmark in benchmarks}
    for (name, metric), scores in runs["unsteered"].scores.items():
        tasks = about[name].tasks.values()
        row = {"task": name, "metric": metric, "source": about[name].source,
               "shots": sorted({task.get_config("num_fewshot") for task in tasks}), "tied": scores.tied}
        steered = runs["steered"].scores[name, metric] if "steered" in runs else None
        row |= _alone(scores, seed) if steered is None else retention(
            scores.values, steered.values, chance=scores.chances, seed=seed).as_dict()
        if about[name].estimated:
            row["estimate"] = {"unsteered": scores.aggregate, "steered": steered.aggregate if steered else None}
        yield row


def _alone(scores: Scores, seed: int) -> dict[str, Any]:
    """Mean of one run with its interval; the difference from nothing has the bootstrap of every other number."""
    pairs = [(value, level) for value, level in zip(scores.values, scores.chances, strict=True) if scored(value)]
    values = [float(value) for value, _ in pairs if value is not None]
    if not values:
        raise ParameterError(f"none of {len(scores.values)} items of {scores.benchmark} is scored.")
    found = paired_difference(values, [0.0] * len(values), seed=seed)
    levels = [level for _, level in pairs if level is not None]
    known = len(levels) == len(values)
    gap = paired_difference(values, levels, seed=seed) if known else None
    return {"unsteered": found.mean, "low": found.low, "high": found.high, "n": len(values),
            "unscored": len(scores.values) - len(values), "chance": sum(levels) / len(levels) if known else None,
            "at_chance": None if gap is None else gap.low <= 0}


def _items(runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (name, metric), scores in runs["unsteered"].scores.items():
        both = {setting: run.scores[name, metric].values for setting, run in runs.items()}
        found[f"{name} {metric}"] = {"ids": scores.items, **both}
    return found


def _plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance without the hashes of prompts, which are many."""
    record = {name: value for name, value in provenance.get("calibration", {}).items() if name != "seen"}
    return {**provenance, **({"calibration": record} if record else {})}
