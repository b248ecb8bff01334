"""`lenssteer eval`: benchmarks unsteered and steered, and what is retained."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_choices, complete_methods, complete_where
from lenssteer.cli.engine import EngineName, EngineOption, EngineSettings, load_speaker, require_torch
from lenssteer.cli.generate import steerer_of
from lenssteer.cli.open_ended import FILES, lines, require
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    GpusOption,
    JsonOption,
    ModelName,
    RayOption,
    TemplateOption,
    WorkersOption,
    emit,
    friendly,
    named_values,
    require_writable,
)
from lenssteer.cli.record import place_of


@friendly
def evaluate(
    model: ModelName,
    tasks: Annotated[str, typer.Option(help="Names with commas: mmlu_sample, truthfulqa_mc1, truthfulqa_mc2, tinyArc, "
                                       "tinyGSM8k, tinyHellaswag, tinyMMLU, tinyTruthfulQA, tinyWinogrande, mmlu, "
                                       "arc_challenge, gsm8k, winogrande, or any of lm-eval; with a judge "
                                       "mt_bench, alpaca_eval.")],
    steer: Annotated[Path | None, typer.Option(help="Calibration or steerer folder; none: unsteered.")] = None,
    method: Annotated[str, typer.Option(autocompletion=complete_methods,
                                        help="With a calibration: a name that `lenssteer methods` lists.")]
    = "selective",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method; "
                                                       "may be repeated.")] = None,
    sites: Annotated[str | None, typer.Option(autocompletion=complete_choices,
                                              help="discriminative, all, or sites such as resid_post.5.")] = None,
    source: Annotated[str | None, typer.Option(help="Site whose direction is used.")] = None,
    where: Annotated[str | None, typer.Option(autocompletion=complete_where,
                                              help="Which tokens are edited; by default the method's own.")] = None,
    judge: Annotated[str | None, typer.Option(help="llm:MODEL@URL, an OpenAI-compatible server that grades mt_bench "
                                              "and compares in alpaca_eval.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer of those two.")] = 1024,
    data: Annotated[Path | None, typer.Option(help="Folder with mmlu_sample/mmlu.json, truthfulqa/TruthfulQA.csv, "
                                              "mt_bench/question.jsonl; by default data in $LENSSTEER_SHARED or "
                                              "../shared.")] = None,
    limit: Annotated[int | None, typer.Option(help="First items of each task.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Examples before each question, in place of the papers' "
                                                    "number.")] = None,
    chat: Annotated[bool, typer.Option(help="Put questions into the chat template, or into --template.")] = False,
    seed: Annotated[int, typer.Option(help="Of examples, sampling and intervals.")] = 0,
    batch_size: BatchSizeOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write everything, with the score of every "
                                                "item, to this JSON file.")] = None,
    template: TemplateOption = None,
    backend: BackendOption = Backend.hooked,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    engine: EngineOption = EngineName.torch,
    engine_settings: EngineSettings = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure capability on lm-eval tasks, unsteered and steered on the same items, and what steering retains."""
    from lenssteer.artefacts.writing import write_text

    if output is not None:
        require_writable(output)
    named = list(dict.fromkeys(name.strip() for name in tasks.split(",") if name.strip()))
    files = require([name for name in named if name in FILES], judge, data)
    require_torch(engine, {"--ray": ray, **files})
    _require_lm_eval(set(named) != set(files) or not files)
    steerer, template = steerer_of(steer, method, named_values(settings or []), sites, source, where, template)
    closed = [name for name in named if name not in files]
    options = {"data": data, "shots": num_fewshot, "limit": limit, "chat": chat, "seed": seed,
               "batch_size": batch_size, "progress": not as_json}
    about = {"backend": backend.value, "device": device, "dtype": dtype, "engine": engine.value,
             "engine_settings": engine_settings, "template": template}
    with _pieces(output, about) as kept:
        if ray is not None:
            _refuse_open(files)
            found = _spread(ray, workers, gpus_per_worker, (model, backend, device, dtype, template), closed, steerer,
                            {**options, "kept": kept})
        else:
            lens = load_speaker(model, engine, engine_settings, backend, device, dtype, template)
            found = _closed(lens, closed, steerer, {**options, "kept": kept}) if closed or not files else {}
            if judge is not None and files:
                found["open_ended"] = _open_ended(lens, steerer, files, judge, limit, max_new_tokens, seed, batch_size,
                                                  kept)
        if output is not None:
            write_text(output, json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n",
                       follow=True, make_folder=True)
    if as_json:
        emit(_brief(found))
        return
    if closed:
        _print(found)
    for result in found.get("open_ended", []):
        for line in lines(result):
            typer.echo(line)


@contextmanager
def _pieces(output: Path | None, about: Mapping[str, Any]) -> Iterator[Any]:
    """What an earlier process finished of a file; nothing is kept where no file is written."""
    from lenssteer.artefacts.lines import pieces_beside
    from lenssteer.artefacts.unfinished import unfinished
    from lenssteer.artefacts.writing import clear_parts

    if output is None or (output.exists() and not output.is_file()):
        yield None
        return
    with unfinished(pieces_beside(output), "evaluating into", about) as kept:
        clear_parts(output.parent, f".{place_of(output).name}.")
        yield kept


def _closed(lens: Any, names: list[str], steerer: Any, options: dict[str, Any]) -> dict[str, Any]:
    from lenssteer.evals.benchmarks import measure_capability

    return measure_capability(lens, names, steerer, **options)


def _spread(address: str, workers: int | None, gpus: float | None, loading: tuple[Any, ...], names: list[str],
            steerer: Any, options: dict[str, Any]) -> dict[str, Any]:
    from lenssteer.cli.pool import pool_of, spec_of
    from lenssteer.cluster import cluster_capability

    _model, _backend, device, *_rest = loading
    with pool_of(address, workers, gpus, device) as pool:
        return cluster_capability(pool, spec_of(*loading), names, steerer, **options)


def _require_lm_eval(wanted: bool) -> None:
    """Before a model is loaded for it."""
    from lenssteer.evals.benchmarks.packages import needed

    if wanted:
        needed("lm_eval")


def _refuse_open(files: dict[str, Path]) -> None:
    from lenssteer.errors import ParameterError

    if files:
        raise ParameterError(f"--ray spreads tasks of lm-eval; run {', '.join(files)} without it: their time is the "
                             "judge's.")


def _open_ended(lens: Any, steerer: Any, files: dict[str, Path], judge: str, limit: int | None, tokens: int, seed: int,
                batch_size: int | None, kept: Any) -> list[dict[str, Any]]:
    """Results of the tasks; one that an earlier process finished is not run again."""
    from lenssteer.artefacts.reading import file_sha256
    from lenssteer.evals.benchmarks.saved import identity
    from lenssteer.evals.open_ended import run_open_ended
    from lenssteer.models import Decoding

    results = []
    for name, path in files.items():
        key = "" if kept is None else kept.key(
            task=name, data=file_sha256(path), card=asdict(lens.card), steerer=identity(steerer), judge=judge,
            limit=limit, tokens=tokens, seed=seed, batch_size=batch_size)
        earlier = [] if kept is None else kept.found(key)
        results.append(earlier[0] if earlier else run_open_ended(
            name, lens, steerer, path, judge, limit, decoding=Decoding(tokens, seed=seed), batch_size=batch_size,
            progress=name if sys.stderr.isatty() else ""))
        if kept is not None and not earlier:
            kept.keep(key, json.loads(json.dumps(results[-1], default=str)))
    return results


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    """The result without what is one an item."""
    kept = {key: value for key, value in found.items() if key not in ("items", "receipts")}
    if "open_ended" in kept:
        kept["open_ended"] = [{key: value for key, value in result.items() if key != "items"}
                              for result in kept["open_ended"]]
    return kept


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import difference, plain_table

    steered = found["steerer"] is not None
    headings = ("task, metric", "  n", " unsteered", " steered", "- unsteered", "retention") if steered else (
        "task, metric", "  n", " unsteered")
    table = plain_table(f"{found['model']['name']}, {_named(found)}", "95 % intervals, items drawn in pairs", headings)
    for row in found["rows"]:
        cells = [f"{row['task']} {row['metric']}", str(row["n"])]
        if steered:
            cells += [f"{row['unsteered']:.3f}", f"{row['steered']:.3f}", difference(row["difference"]), _ratio(row)]
        else:
            cells.append(difference({"mean": row["unsteered"], "low": row["low"], "high": row["high"]}))
        table.add_row(*cells)
    console = Console()
    console.print(table)
    for line in _notes(found):
        console.print(line, highlight=False, markup=False)


def _named(found: dict[str, Any]) -> str:
    if found["steerer"] is None:
        return "unsteered"
    return f"steered by {found['steerer'].get('method', 'a saved steerer')}, where={found['where']}"


def _ratio(row: dict[str, Any]) -> str:
    from lenssteer.cli.tables import short

    if row["ratio"] is None:
        return "undefined"
    high = short(row["high"]) if row["high"] is not None else "no bound"
    return f"{short(row['ratio'])}[{short(row['low'] or 0.0)},{high}]"


def _notes(found: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the table."""
    lines = []
    for row in found["rows"]:
        name = f"{row['task']} {row['metric']}"
        if row["at_chance"]:
            lines.append(f"{name}: the unsteered model is not clearly above chance ({row['chance']:.3f}); what it "
                         "retains says nothing about ability.")
        if row["tied"]:
            lines.append(f"{name}: {row['tied']} items unsteered have several most likely choices; lm-eval takes the "
                         "first, which in truthfulqa_mc1 is the right one.")
        if row["unscored"]:
            lines.append(f"{name}: {row['unscored']} items are unscored and in no number.")
        if row.get("ratio", 0.0) is None:
            lines.append(f"{name}: no retention, as the unsteered score is 0.")
        if row["task"].startswith("tiny"):
            estimate = row.get("estimate")
            lines.append(f"{name}: raw means; tinyBenchmarks' estimate is {estimate}." if estimate else
                         f"{name}: raw mean of the items; tinyBenchmarks' estimate of the whole benchmark needs its "
                         "package.")
    cost = [f"{name} {seconds:.0f} s, {found['tokens'][name]['read']} tokens read, "
            f"{found['tokens'][name]['generated']} generated, {found['tokens'][name]['shortened']} requests shortened"
            for name, seconds in found["seconds"].items()]
    left = [f"left out, no share of them means anything: {', '.join(found['left_out'])}."] if found["left_out"] else []
    return [*lines, *left, *(f"{line}." for line in cost), f"seed {found['seed']}."]
