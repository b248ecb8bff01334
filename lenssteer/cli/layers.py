"""`lenssteer layers`: what a calibration found, site by site."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import JsonOption, emit, friendly

WIDTH = 12


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

    table = Table(caption="projections of unit activations on the global direction")
    for heading in ("site", "negative", "", "positive", "", "mean cosine", "length", "effect", "keep"):
        table.add_column(heading, justify="right" if heading in ("negative", "positive", "length", "effect") else "left")
    largest = max((abs(line[name]) for line in lines for name in ("positive", "negative")), default=1.0) or 1.0
    for line in lines:
        table.add_row(line["site"] + (" *" if line["site"] == source else ""),
                      f"{line['negative']:+.3f}", _bar(line["negative"] / largest, "blue"),
                      f"{line['positive']:+.3f}", _bar(line["positive"] / largest, "red"),
                      _number(line["mean_cosine"]), f"{line['length']:.2f}", _number(line["effect_size"]),
                      "same mean" if line["degenerate"] else "yes" if line["discriminative"] else "")
    Console().print(table)


def _bar(share: float, colour: str) -> str:
    filled = "█" * round(abs(share) * WIDTH / 2)
    half = WIDTH // 2
    return f"[{colour}]{filled:>{half}}│{'':{half}}[/]" if share < 0 else f"[{colour}]{'':{half}}│{filled:<{half}}[/]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
