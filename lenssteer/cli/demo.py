"""`lenssteer demo`: five methods on the embedded model, a table and a report, in under a minute."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import Backend, BackendOption, JsonOption, emit, friendly, load


@friendly
def demo(
    backend: BackendOption = Backend.hooked,
    report: Annotated[Path, typer.Option(help="Where the HTML report is written.")] = Path("report.html"),
    seed: Annotated[int, typer.Option(help="Seed of the random control.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Steer the embedded demo model: calibrate, choose settings on one split, compare methods on another."""
    import sys

    from lenssteer.report import write_report
    from lenssteer.studies.demo import demo_study

    lens = load("demo", backend, "cpu", "float32", None)
    result = demo_study(lens, seed=seed, progress=sys.stderr.isatty())
    result |= {"title": "lenssteer demo", "command": f"lenssteer demo --backend {backend.value} --seed {seed}"}
    path = write_report(result, report)
    if as_json:
        emit({"seconds": result["seconds"], "rows": result["rows"], "chosen": result["chosen"],
              "report": str(path), "seed": seed})
        return
    _print(result)
    typer.echo(f"\n{result['seconds']:.0f} s. Report: {path}\n"
               "Next:  lenssteer calibrate MODEL --positive FILE --negative FILE -o DIR")


def _setting(row: dict[str, Any]) -> str:
    if "degrees" in row:
        return f"{row['degrees']:g}°"
    return f"{row['coefficient']:g} d" if "coefficient" in row else ""


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="test split, held-out requests", caption="exact: the right guide; on form: complies with what "
                  "was asked. Settings were chosen on the selection split.")
    for heading in ("method", "sites", "setting"):
        table.add_column(heading)
    for heading in ("refusal", "on form", "exact", "harmless refusal", "harmless exact"):
        table.add_column(heading, justify="right")
    for row in result["rows"]:
        harmful, harmless = row["harmful"], row["harmless"]
        table.add_row(row["method"], row["sites"], _setting(row), *(f"{value:.2f}" for value in (
            harmful["refusal"], harmful["on_form"], harmful["exact"], harmless["refusal"], harmless["exact"])))
    console = Console()
    console.print(table)
    text = result["texts"][0]
    console.print(f"[bold]{text['prompt']}[/bold]", highlight=False)
    for name in ("unsteered", "selective", "addition", "random"):
        console.print(f"  [cyan]{name}:[/cyan] {text['answers'][name]}", highlight=False)
