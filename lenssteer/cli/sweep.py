"""`lenssteer sweep`: methods at many amounts and sites, into a folder that a killed run goes on from."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_choices, complete_judges, complete_methods, complete_scores, complete_where
from lenssteer.cli.engine import EngineName, EngineOption, EngineSettings, load_speaker, require_torch
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    GpusOption,
    JsonOption,
    RayOption,
    SystemOption,
    TemplateOption,
    WorkersOption,
    emit,
    friendly,
    named_values,
    require_writable,
    warn_of_seen,
)

MOST_WIDTH = 1000


@friendly
def sweep(
    target: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="The model to sweep; with --show, the folder of a "
                                          "run.")],
    show: Annotated[bool, typer.Option("--show", help="Print the table of a run, finished or not.")] = False,
    steer: Annotated[Path | None, typer.Option(help="Calibration folder.")] = None,
    method: Annotated[str, typer.Option(autocompletion=complete_methods,
                                        help="Names that `lenssteer methods` lists, commas between.")] = "selective",
    grid: Annotated[list[str] | None, typer.Option(help="degrees=0:360:10 (360 left out), or coefficient=-2,-1,0, for "
                                                   "the methods with that amount; may be repeated.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another parameter, of the "
                                                       "methods that have it; may be repeated.")] = None,
    sources: Annotated[str | None, typer.Option(help="Sites whose directions are tried: all, or resid_post.3,"
                                                "resid_post.4. By default the calibration's own.")] = None,
    sites: Annotated[str | None, typer.Option(autocompletion=complete_choices,
                                              help="Where it acts: discriminative, all, or a list of sites; several "
                                              "choices with semicolons between.")] = None,
    where: Annotated[str | None, typer.Option(autocompletion=complete_where,
                                              help="Which tokens: all, prompt, generated, ...")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts answered at every setting, none of them calibrated "
                                                 "on.")] = None,
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    scores: Annotated[str, typer.Option(autocompletion=complete_scores,
                                        help="What is measured of every answer, commas between: refused, answers, "
                                        "nll, ...")] = "refused,repeats,empty",
    judge: Annotated[str, typer.Option(autocompletion=complete_judges,
                                       help="Who says what refuses: phrases, demo, ...")] = "phrases",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    batch_size: BatchSizeOption = None,
    keep_answers: Annotated[bool, typer.Option("--keep-answers", help="Write the answers too, harmful ones "
                                               "included.")] = False,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    engine: EngineOption = EngineName.torch,
    engine_settings: EngineSettings = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sweep methods over a grid; the same command goes on where a killed one stopped."""
    from lenssteer.errors import ParameterError

    if show:
        _show(Path(target), None, as_json)
        return
    if steer is None or prompts is None or output is None:
        raise ParameterError("a sweep needs --steer DIR (a calibration), --prompts FILE and -o RUN; to see a run, give "
                             "its folder and --show.")
    from lenssteer.evals.judges.named import judge_named
    from lenssteer.evals.scoring import measure_of, scorer_of
    from lenssteer.models import Decoding
    from lenssteer.prompts import read_prompts
    from lenssteer.recipe import Calibration
    from lenssteer.sweeps import grids_of, run_sweep

    require_torch(engine, {"--ray": ray})
    require_writable(output / "sweep.json")
    names, by = _scores(scores), judge_named(judge)
    asked = read_prompts(prompts, column=column)
    calibration = Calibration.load(steer)
    grids = grids_of(_listed(method), grid or [], settings=named_values(settings or []), sources=_several(sources),
                     sites=[_several(choice) for choice in (sites or "").split(";")], where=where,
                     decoding=Decoding(max_new_tokens, temperature, seed=seed))
    for one in grids:
        one.cells(calibration)
    warn_of_seen(calibration.record.get("seen", []), asked)
    template = template or calibration.record.get("template")
    options = {"system": system, "batch_size": batch_size, "keep_answers": keep_answers,
               "progress": "sweeping" if sys.stderr.isatty() else ""}
    if ray is None:
        lens = load_speaker(target, engine, engine_settings, backend, device, dtype, template)
        score = scorer_of(names, model=lens, judge=by, system=system)
        rows = run_sweep(lens, calibration, grids, asked, output, score, measure=measure_of(names, by), scores=names,
                         judge=by.name, **options)
    else:
        from lenssteer.cli.pool import pool_of, spec_of
        from lenssteer.cluster import SweepJob, cluster_sweep

        job = SweepJob(spec_of(target, backend, device, dtype, template), calibration, grids, output)
        with pool_of(ray, workers, gpus_per_worker, device) as pool:
            [rows] = cluster_sweep(pool, [job], asked, names, judge=by, **options)
    _show(output, [row.cell for row in rows], as_json)
    if not as_json:
        told = {"sites": sites and sites.split(";")[-1].strip(), "source": sources and rows[-1].source, "where": where}
        _suggest(target, steer, output, rows[-1], told)


def _suggest(target: str, steer: Path, output: Path, last: Any, told: dict[str, str | None]) -> None:
    """The next command, with what was chosen."""
    amount = f" --set {last.amount_name}={last.amount:g}" if last.amount_name else ""
    chosen = "".join(f" --{name} {value}" for name, value in told.items() if value)
    typer.echo(f"Next:  lenssteer generate {target} --steer {steer} --method {last.method}{amount}{chosen} "
               f"\"your prompt\"\n       lenssteer sweep {output} --show")


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _several(names: str | None) -> str | tuple[str, ...] | None:
    """A rule as it stands, a list of sites as a tuple, nothing as None."""
    return tuple(_listed(names)) if names and "." in names else (names or "").strip() or None


def _scores(text: str) -> list[str]:
    from lenssteer.errors import ParameterError
    from lenssteer.evals.scoring import SCORES
    from lenssteer.nearest import did_you_mean

    names = _listed(text)
    if not names or len(set(names)) < len(names) or not set(names) <= set(SCORES):
        foreign = next((name for name in names if name not in SCORES), "")
        raise ParameterError(f"--scores takes different names of {', '.join(SCORES)}; got {text!r}."
                             + did_you_mean(foreign, SCORES))
    return names


def _show(folder: Path, cells: list[str] | None, as_json: bool) -> None:
    """The rows of a run, or those of some cells."""
    from lenssteer.cells import read_run

    header, rows = read_run(folder)
    planned, done = len(header["cells"]), len(rows)
    chosen = rows if cells is None else [row for row in rows if row.cell in set(cells)]
    cost = _cost(chosen)
    if as_json:
        about = {name: header[name] for name in ("scores", "judge", "lenssteer") if name in header}
        emit({"output": str(folder), "measure": header["measure"], "prompts": header["n"], **about, "cells": planned,
              "finished": done, "cost": cost, "rows": [row.summary() for row in chosen]})
        return
    _print(header, chosen)
    missing = planned - done
    typer.echo(f"{folder}: {done} of {planned} cells" + (
        "; the command that began the run goes on with it." if missing else ", all finished."))
    if cost:
        typer.echo(f"{cost['tokens']:,.0f} tokens ({cost['prompt_tokens']:,.0f} of prompts), {cost['passes']:,.0f} "
                   f"passes, {cost['seconds']:.1f} s")


def _cost(rows: Sequence[Any]) -> dict[str, float]:
    """What the rows cost together; a run of an older lenssteer does not know."""
    known = [row.cost for row in rows if row.cost is not None]
    names = ("tokens", "prompt_tokens", "generated_tokens", "passes", "seconds")
    return {name: round(sum(cost[name] for cost in known), 3) for name in names} if known else {}


def _print(header: dict[str, Any], rows: Sequence[Any]) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import plain_table

    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    told = {"source": lambda row: row.source, "sites": lambda row: _places(row.sites)}
    extra = {name: told[name] for name in told if len({told[name](row) for row in rows if row.sites}) > 1}
    table = plain_table(f"{header['n']} prompts, {header['card']['name']}",
                        f"{header['measure']}\n[]: Wilson 95 % of a share; (n): of n scored prompts",
                        ["setting", *extra, *names])
    for row in rows:
        cells = ["failed"] * len(names) if row.error else [_score(row, name) for name in names]
        table.add_row(row.label, *(tell(row) for tell in extra.values()), *cells)
    console = Console()
    # A longer line beats a column left out.
    console.width = max(console.width, Console(width=MOST_WIDTH).measure(table).maximum)
    console.print(table)
    for row in rows:
        if row.error:
            console.print(f"  {row.label}: {row.error}", highlight=False, markup=False)


def _places(sites: Sequence[str]) -> str:
    return sites[0] if len(sites) == 1 else f"{len(sites)} sites" if sites else ""


def _score(row: Any, name: str) -> str:
    """A mean; of shares with its interval, and with the number of scored prompts where some have no score."""
    from lenssteer.cli.tables import short
    from lenssteer.rows import wilson_interval

    mean, n = row.mean(name), row.scored(name)
    if mean is None:
        return "unscored"
    share = all(value in (None, 0.0, 1.0) for value in row.scores[name])
    interval = "[{},{}]".format(*map(short, wilson_interval(mean, n))) if share else ""
    return f"{short(mean)}{interval}" + (f"({n})" if n < row.n else "")
