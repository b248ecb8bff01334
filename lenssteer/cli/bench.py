"""`lenssteer bench`: what lenssteer costs on this machine, against targets and other libraries."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import INTERRUPTED, DeviceOption, DtypeOption, JsonOption, emit, friendly
from lenssteer.progress import stages


@friendly
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAMES]...", help="capture, decoding, sweep, search, "
                                                      "lowrank, engines, memory, headline, peers; all but peers by "
                                                      "default.")] = None,
    model: Annotated[str | None, typer.Option(metavar="DIR", help="A model folder; by default a random 12-layer Llama "
                                              "of width 512.")] = None,
    positive: Annotated[Path | None, typer.Option(help="Prompts that model refuses, for headline and search; by "
                                                  "default the demo model and its prompts.")] = None,
    negative: Annotated[Path | None, typer.Option(help="Prompts it answers.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of a ratio.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny work, to see that all of it runs; its figures are "
                                        "noise.")] = False,
    layers: Annotated[int, typer.Option(min=1, help="Of the random model.")] = 12,
    width: Annotated[int, typer.Option(min=64, help="Of the random model; a multiple of 64.")] = 512,
    with_peers: Annotated[bool, typer.Option("--with-peers", help="Measure repeng, steering-vectors and nnsight too, "
                                             "in an environment that is made for them.")] = False,
    peers_env: Annotated[Path | None, typer.Option(metavar="DIR", help="Where that environment is, or is made; in the "
                                                   "cache folder by default.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Measure what lenssteer costs here: medians of alternating runs, with targets that are met or missed."""
    from lenssteer.bench import Size, chosen, peers_folder, run_benchmarks, stand_of
    from lenssteer.errors import ParameterError

    if (positive is None) != (negative is None) or (positive is not None and model is None):
        raise ParameterError("--positive and --negative come together, with --model.")
    if width % 64:
        raise ParameterError(f"--width is a multiple of 64, the size of a head; got {width}.")
    wanted = chosen(names or [], with_peers)
    files = (positive, negative) if positive is not None and negative is not None else None
    peers = peers_env or peers_folder() if any(one.name == "peers" for one in wanted) else None
    with stand_of(model, size=Size(layers, width), files=files, repeats=1 if quick else repeats, quick=quick,
                  device=device, dtype=dtype, peers=peers) as stand, stages("measuring") as tell:
        report = run_benchmarks(stand, wanted, tell)
    _show(report.as_dict(), markdown, as_json)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if report.failed:
        raise typer.Exit(1)


def _show(report: dict[str, Any], as_markdown: bool, as_json: bool) -> None:
    if as_json:
        emit(report)
        return
    if as_markdown:
        from lenssteer.bench.markdown import markdown

        sys.stdout.write(markdown(report))
        return
    _table(report)


def _table(report: dict[str, Any]) -> None:
    from rich.console import Console

    from lenssteer.bench.markdown import SIGNS
    from lenssteer.cli.tables import plain_table

    console, machine = Console(), report["machine"]
    table = plain_table(report["model"]["measured"],
                        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, {machine['device']}, "
                        f"{machine['dtype']}, {machine['date']}\n[]: {report['interval']}",
                        ["ratio", "median", "cpu", "target", ""])
    for name, one in report["ratios"].items():
        target = f"{SIGNS[one['better']]} {one['target']:g}" if one["target"] is not None else ""
        cpu = f"{one['cpu']:.2f}" if one["cpu"] is not None else ""
        table.add_row(name, f"{one['median']:.2f}\\[{one['low']:.2f},{one['high']:.2f}]", cpu, target,
                      {True: "met", False: "MISSED", None: ""}[one["met"]])
    console.width = max(console.width, Console(width=200).measure(table).maximum)
    console.print(table)
    for name, value in report["tokens_per_second"].items():
        console.print(f"{name}: {value:,.0f} tokens a second", highlight=False)
    for one in report["memory"]:
        console.print(f"{one['prompts']} prompts, {one['layers']} layers, width {one['d_model']}: "
                      f"{one['loaded_mib']:.0f} MiB loaded, calibration adds {one['added_mib']:.0f} MiB",
                      highlight=False)
    for line in [*(f"{name} failed: {why}" for name, why in report["failed"].items()), *report["notes"]]:
        console.print(line, highlight=False, markup=False)
    if report["interrupted"]:
        console.print("interrupted; what is above was measured before.")
