"""`lenssteer eval`: benchmarks unsteered and steered, and what is retained."""

import json
import sys
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
    if output is not None:
        require_writable(output)
    named = list(dict.fromkeys(name.strip() for name in tasks.split(",") if name.strip()))
    files = require([name for name in named if name in FILES], judge, data)
    require_torch(engine, {"--ray": ray, **files})
    _require_lm_eval(set(named) != set(files) or not files)
    steerer, template = steerer_of(steer, method, named_values(settings or []), sites, source, where, template)
    found: dict[str, Any] = {}
    closed = [name for name in named if name not in files]
    options = {"data": data, "shots": num_fewshot, "limit": limit, "chat": chat, "seed": seed,
               "batch_size": batch_size, "progress": not as_json}
    if ray is not None:
        _refuse_open(files)
        from lenssteer.cli.pool import pool_of, spec_of
        from lenssteer.cluster import cluster_capability

        with pool_of(ray, workers, gpus_per_worker, device) as pool:
            found = cluster_capability(pool, spec_of(model, backend, device, dtype, template), closed, steerer,
                                       **options)
    lens = None if ray is not None else load_speaker(model, engine, engine_settings, backend, device, dtype, template)
    if lens is not None and (closed or not files):
        from lenssteer.evals.benchmarks import measure_capability

        found = measure_capability(lens, closed, steerer, **options)
    if judge is not None and files:
        found["open_ended"] = _open_ended(lens, steerer, files, judge, limit, max_new_tokens, seed, batch_size)
    if output is not None:
        _write(output, found)
    if as_json:
        emit(_brief(found))
        return
    if closed:
        _print(found)
    for result in found.get("open_ended", []):
        for line in lines(result):
            typer.echo(line)


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
                batch_size: int | None) -> list[dict[str, Any]]:
    from lenssteer.evals.open_ended import run_open_ended
    from lenssteer.models import Decoding

    return [run_open_ended(name, lens, steerer, path, judge, limit, decoding=Decoding(tokens, seed=seed),
                           batch_size=batch_size, progress=name if sys.stderr.isatty() else "")
            for name, path in files.items()]


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    """The result without what is one an item."""
    kept = {key: value for key, value in found.items() if key not in ("items", "receipts")}
    if "open_ended" in kept:
        kept["open_ended"] = [{key: value for key, value in result.items() if key != "items"}
                              for result in kept["open_ended"]]
    return kept


def _write(path: Path, found: dict[str, Any]) -> None:
    from lenssteer.errors import FileError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error}") from error


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
