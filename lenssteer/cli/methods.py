"""`lenssteer methods`: every method of the catalogue."""

from typing import Annotated, Any

import typer

from lenssteer.cli.options import JsonOption, emit, friendly


@friendly
def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/methods.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every steering method with its parameters and its source."""
    from lenssteer.methods import describe
    from lenssteer.methods.document import markdown as page

    if markdown:
        typer.echo(page(), nl=False)
    elif as_json:
        emit(describe())
    else:
        _print(describe())


def _print(found: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="bold: required")
    for heading in ("method", "parameters", "sites", "source"):
        table.add_column(heading, no_wrap=heading in ("method", "sites"))
    for method in found:
        names = [f"[bold]{p['name']}[/]" if p["required"] else p["name"] for p in method["parameters"]]
        table.add_row(method["name"], ", ".join(names), method["sites"], method["source"])
    console = Console()
    console.print(table)
    console.print("Next:  lenssteer generate MODEL --steer DIR --method NAME --set strength=0.4 \"your prompt\"",
                  highlight=False)
