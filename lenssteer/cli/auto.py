"""`lenssteer auto`: from nothing to a steerer and its report card, in one command that goes on where it stopped."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_concepts
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelName,
    TemplateOption,
    command_line,
    emit,
    friendly,
    load,
    require_writable,
)
from lenssteer.cli.record import writes_to


@friendly
def auto(
    model: ModelName,
    concept: Annotated[str, typer.Option(autocompletion=complete_concepts,
                                         help="What to steer away from: refusal.")] = "refusal",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run; by default "
                                                "runs/MODEL-CONCEPT.")] = None,
    positive: Annotated[Path | None, typer.Option(help="Prompts it refuses; the demo brings its own.")] = None,
    negative: Annotated[Path | None, typer.Option(help="Prompts it answers.")] = None,
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the concept's usual prompt files, in place of both; by "
                                              "default data in $LENSSTEER_SHARED or ../shared.")] = None,
    method: Annotated[str | None, typer.Option(help="selective, standard-angular, adaptive-angular or addition; chosen "
                                               "by default.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer; the demo has its own.")] = 48,
    seed: Annotated[int, typer.Option(help="Of splits, search, random control and bootstrap.")] = 0,
    template: TemplateOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """From nothing to a tested steerer: calibrate, search a setting, save, test, report.

    The same command goes on where it stopped. The folder then holds calibration/, search/, steerer/, card.json and
    report.html.
    """
    from lenssteer.studies.auto import auto as study
    from lenssteer.studies.auto import require_method

    folder = output or Path("runs") / f"{Path(model).name}-{concept}"
    require_writable(folder / "auto.json")
    writes_to(folder)
    require_method(method)
    material = _material(model, concept, positive, negative, column, data, seed, max_new_tokens)
    lens = load(model, backend, device, dtype, template)
    card = study(lens, material, folder, method=method, seed=seed, tell=_silent if as_json else _tell)
    report = _report(card, folder)
    following = _next(model, folder, template)
    if as_json:
        emit({**{key: value for key, value in card.items() if key != "layers"}, "output": str(folder),
              "report": str(report), "next": following})
        return
    _print(card)
    from lenssteer.studies.pages.auto import caution

    if caution(card):
        typer.secho(caution(card), fg=typer.colors.YELLOW)
    typer.echo(f"Report: {report}\nNext:  " + "\n       ".join(following))


def _material(model: str, concept: str, positive: Path | None, negative: Path | None, column: str | None,
              data: Path | None, seed: int, tokens: int) -> Any:
    from lenssteer.errors import PromptError
    from lenssteer.studies.concepts import demo_material, drawn_material, find_concept, usual_files

    found = find_concept(concept)
    if (positive is None) != (negative is None):
        raise PromptError("give both --positive FILE and --negative FILE, or neither.")
    if positive is None or negative is None:
        if model == "demo" and data is None:
            return demo_material(found)
        positive, negative = usual_files(found, data)
    return drawn_material(found, positive, negative, column=column, seed=seed, max_new_tokens=tokens)


def _silent(step: str, said: str, why: str) -> None:
    """Nothing, where JSON is asked for."""


def _tell(step: str, said: str, why: str) -> None:
    typer.echo(f"{typer.style(f'{step:<12}', bold=True)} {said}")
    typer.secho(f"{'':<12} {why}", dim=True)


def _report(card: Any, folder: Path) -> Path:
    from lenssteer.report import write_report
    from lenssteer.studies.pages.auto import auto_document

    return write_report(auto_document(card, command=command_line()), folder / "report.html")


def _next(model: str, folder: Path, template: str | None) -> list[str]:
    ask = ["lenssteer", "generate", model, "--steer", str(folder / "steerer"), "--compare", "your prompt"]
    return [shlex.join(ask), shlex.join(["lenssteer", "layers", str(folder / "calibration")]),
            shlex.join(["lenssteer", "runs", str(folder.parent)])]


def _print(card: Any) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import plain_table, short

    scores = list(card["rows"][0]["positive"])
    table = plain_table(f"{card['prompts']['test']} test prompts of each class", "[]: Wilson 95 %; KL: nats a token on "
                        "negative prompts; random: the same edit, random direction",
                        ["", *(f"{kind}\n{score}" for kind in ("positive", "negative") for score in scores), "KL"])
    for row in card["rows"]:
        cells = [_cell(row[kind][score], short) for kind in ("positive", "negative") for score in scores]
        table.add_row(row["arm"], *cells, "" if row["kl"] is None else f"{row['kl']:.3f}")
    typer.echo()
    Console().print(table)


def _cell(found: Any, short: Any) -> str:
    return "unscored" if found["mean"] is None else \
        f" {short(found['mean'])}[{short(found['low'])},{short(found['high'])}]"
