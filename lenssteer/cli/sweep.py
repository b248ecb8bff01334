"""`lenssteer sweep`: a method at many amounts, into a folder that a killed run goes on from."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    SystemOption,
    TemplateOption,
    emit,
    friendly,
    load,
    named_values,
    require_writable,
)


@friendly
def sweep(
    target: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="The model to sweep; with --show, the folder of a "
                                          "run.")],
    show: Annotated[bool, typer.Option("--show", help="Print the table of a run, finished or not.")] = False,
    steer: Annotated[Path | None, typer.Option(help="Calibration folder.")] = None,
    method: Annotated[str, typer.Option(help="A name that `lenssteer methods` lists.")] = "selective",
    grid: Annotated[str | None, typer.Option(help="degrees=0:360:10 (360 left out), or coefficient=-2,-1,0; nothing "
                                             "for a method without an amount.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another parameter of the "
                                                       "method; may be repeated.")] = None,
    sources: Annotated[str | None, typer.Option(help="Sites whose directions are tried: all, or resid_post.3,"
                                                "resid_post.4. By default the calibration's own.")] = None,
    sites: Annotated[str | None, typer.Option(help="Where it acts: discriminative, all, or a list of sites.")] = None,
    where: Annotated[str | None, typer.Option(help="Which tokens: all, prompt, generated, ...")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts answered at every setting, none of them calibrated "
                                                 "on.")] = None,
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Most rows of a batch; settings share batches.")] = 256,
    keep_answers: Annotated[bool, typer.Option("--keep-answers", help="Write the answers too, harmful ones "
                                               "included.")] = False,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Sweep a method over a grid; the same command goes on where a killed one stopped."""
    from lenssteer.errors import ParameterError

    if show:
        _show(Path(target), None, as_json)
        return
    if steer is None or prompts is None or output is None:
        raise ParameterError("a sweep needs --steer DIR (a calibration), --prompts FILE and -o RUN; to see a run, give "
                             "its folder and --show.")
    from lenssteer.models import Decoding
    from lenssteer.prompts import read_prompts
    from lenssteer.recipe import Calibration
    from lenssteer.sweeps import PHRASE_MEASURE, phrase_scores, run_sweep

    require_writable(output / "sweep.json")
    asked = read_prompts(prompts, column=column)
    calibration = Calibration.load(steer)
    wanted = _grid(method, grid, named_values(settings or []), _several(sources), _several(sites), where,
                   Decoding(max_new_tokens, temperature, seed=seed))
    wanted.cells(calibration)
    _warn_of_seen(calibration.record.get("seen", []), asked)
    template = template or calibration.record.get("template")
    lens = load(target, backend, device, dtype, template)
    rows = run_sweep(lens, calibration, wanted, asked, output, phrase_scores, measure=PHRASE_MEASURE,
                     system=system, batch_size=batch_size, keep_answers=keep_answers,
                     progress="sweeping" if sys.stderr.isatty() else "")
    _show(output, [row.cell for row in rows], as_json)
    if not as_json:
        last = rows[-1]
        amount = f" --set {last.amount_name}={last.amount:g}" if last.amount_name else ""
        typer.echo(f"Next:  lenssteer generate {target} --steer {steer} --method {method}{amount} \"your prompt\"\n"
                   f"       lenssteer sweep {output} --show")


def _several(names: str | None) -> str | tuple[str, ...] | None:
    return tuple(name.strip() for name in names.split(",")) if names and "." in names else names


def _grid(method: str, grid: str | None, settings: dict[str, Any], sources: str | tuple[str, ...] | None,
          sites: str | tuple[str, ...] | None, where: str | None, decoding: Any) -> Any:
    from lenssteer.errors import ParameterError
    from lenssteer.methods import find_method
    from lenssteer.sweeps import Grid, amounts_of

    name, amounts = amounts_of(grid) if grid else ("", ())
    amount = find_method(method).amount
    if amount is not None and name != amount.name:
        raise ParameterError(f"{method} is swept over {amount.name}; give --grid {amount.name}=START:STOP:STEP or "
                             f"--grid {amount.name}=A,B,C; got {grid or 'no --grid'}.")
    return Grid(method, amounts, sources=sources, sites=sites, where=where, settings=settings, decoding=decoding)


def _warn_of_seen(seen: Sequence[str], asked: Sequence[str]) -> None:
    import warnings

    from lenssteer.prompts import PromptWarning, prompt_hash

    known = set(seen)
    leaked = sum(prompt_hash(prompt) in known for prompt in asked)
    if leaked:
        warnings.warn(f"{leaked} of {len(asked)} prompts were calibrated on, so the table flatters the method; sweep "
                      "on others.", PromptWarning, stacklevel=2)


def _show(folder: Path, cells: list[str] | None, as_json: bool) -> None:
    """The rows of a run, or those of some cells."""
    from lenssteer.sweeps import read_run

    header, rows = read_run(folder)
    planned, done = len(header["cells"]), len(rows)
    chosen = rows if cells is None else [row for row in rows if row.cell in set(cells)]
    if as_json:
        emit({"output": str(folder), "measure": header["measure"], "prompts": header["n"], "cells": planned,
              "finished": done, "rows": [row.summary() for row in chosen]})
        return
    _print(header, chosen)
    missing = planned - done
    typer.echo(f"{folder}: {done} of {planned} cells" + (
        "; the command that began the run goes on with it." if missing else ", all finished."))


def _print(header: dict[str, Any], rows: Sequence[Any]) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import plain_table

    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    several = len({row.source for row in rows if row.source}) > 1
    headings = ["setting", *(["source"] if several else []), *names]
    table = plain_table(f"{header['n']} prompts, {header['card']['name']}",
                        f"{header['measure']}\n[]: Wilson 95 % of a share; (n): of n scored prompts", headings)
    for row in rows:
        cells = ["failed"] * len(names) if row.error else [_score(row, name) for name in names]
        table.add_row(row.label, *([row.source] if several else []), *cells)
    console = Console()
    console.print(table)
    for row in rows:
        if row.error:
            console.print(f"  {row.label}: {row.error}", highlight=False, markup=False)


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
