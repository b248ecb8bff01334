"""`lenssteer layers`: what a calibration found, site by site."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import JsonOption, emit, friendly

HALF_WIDTH = 10


@friendly
def layers(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A calibration folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show how the classes project on the direction at every site, and which sites tell them apart by sign."""
    from lenssteer.recipe import Calibration

    calibration = Calibration.load(folder)
    lines = calibration.table()
    if as_json:
        emit({"direction": str(calibration.direction.site), "rule": calibration.rule, "layers": lines})
        return
    _print(lines, str(calibration.direction.site))
    typer.echo(f"direction from {calibration.direction.site}; {len(calibration.discriminative)} of {len(lines)} sites "
               f"are discriminative by rule {calibration.rule!r}.")


def _print(lines: list[dict[str, Any]], source: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="mean projection of unit activations on the global direction: "
                  "[blue]○[/] negative class, [red]●[/] positive class, │ zero")
    table.add_column("site", no_wrap=True)
    table.add_column("projection", no_wrap=True)
    for heading in ("cosine", "length", "effect"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("keep", no_wrap=True)
    largest = max((abs(line[name]) for line in lines for name in ("positive", "negative")), default=1.0) or 1.0
    for line in lines:
        table.add_row(line["site"] + (" *" if line["site"] == source else ""),
                      _axis(line["negative"] / largest, line["positive"] / largest), _number(line["mean_cosine"]),
                      _number(line["length"]), _number(line["effect_size"]),
                      "same mean" if line["degenerate"] else "yes" if line["discriminative"] else "")
    Console().print(table)


def _axis(negative: float, positive: float) -> str:
    """Both classes on one axis, from minus to plus the largest projection."""
    cells = [" "] * (2 * HALF_WIDTH + 1)
    cells[HALF_WIDTH] = "│"
    cells[HALF_WIDTH + round(negative * HALF_WIDTH)] = "[blue]○[/]"
    cells[HALF_WIDTH + round(positive * HALF_WIDTH)] = "[red]●[/]"
    return "".join(cells)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
