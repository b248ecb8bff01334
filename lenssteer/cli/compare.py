"""`lenssteer compare`: all methods in one table, at equal side effect."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_methods
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    BatchSizeOption,
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


@friendly
def compare(
    model: ModelName,
    positive: Annotated[Path | None, typer.Option(help="Prompts the model refuses; the demo brings its own.")] = None,
    negative: Annotated[Path | None, typer.Option(help="Prompts it answers.")] = None,
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    methods: Annotated[str | None, typer.Option(autocompletion=complete_methods,
                                                help="Names separated by commas; all that need no SAE by default.")]
    = None,
    target_kl: Annotated[float, typer.Option(help="Side effect every method is brought to: mean KL a token on "
                                             "harmless prompts, in nats.")] = 0.1,
    calibration: Annotated[int, typer.Option(help="Prompts of each class directions are fitted on.")] = 128,
    selection: Annotated[int, typer.Option(help="Prompts of each class settings are chosen on.")] = 20,
    test: Annotated[int, typer.Option(help="Prompts of each class the table is about.")] = 60,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer; the demo has its own.")] = 48,
    planes: Annotated[bool, typer.Option("--planes", help="Compare planes of rotation instead, on the selection "
                                         "split.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of splits, random direction and bootstrap.")] = 0,
    report: Annotated[Path | None, typer.Option(help="HTML file with bars, Pareto frontier and receipts.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The same as JSON, for `lenssteer report`.")]
    = None,
    template: TemplateOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    batch_size: BatchSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every method at equal KL, against unsteered, prompt-only and a random direction."""
    from lenssteer.errors import PromptError
    from lenssteer.prompts import ContrastSet
    from lenssteer.studies.compare import compare as study
    from lenssteer.studies.planes import compare_planes
    from lenssteer.studies.tasks import demo_task, refusal_task

    if positive is not None and negative is not None:
        contrast = ContrastSet.from_files(positive, negative, column=column)
        task = refusal_task(contrast, calibration=calibration, selection=selection, test=test, seed=seed,
                            tokens=max_new_tokens)
    elif model == "demo" and positive is None and negative is None:
        task = demo_task(selection=selection, test=test)
    else:
        raise PromptError("give --positive FILE (prompts it refuses) and --negative FILE (prompts it answers); only "
                          "the demo model brings its own.")
    for path in (path for path in (report, output) if path):
        require_writable(path)
    lens = load(model, backend, device, dtype, template)
    lens.most_rows = batch_size
    options: dict[str, Any] = {"target_kl": target_kl, "seed": seed, "progress": sys.stderr.isatty()}
    result = compare_planes(lens, task, **options) if planes else study(
        lens, task, methods=methods.split(",") if methods else None, **options)
    _write(result, planes, report, output)
    if as_json:
        emit(result)
    elif planes:
        _print_planes(result)
    else:
        _print(result)


def _write(result: dict[str, Any], planes: bool, report: Path | None, output: Path | None) -> None:
    """The page and its JSON, where they are asked for."""
    if report is None and output is None:
        return
    from importlib.metadata import version

    from lenssteer.report import write_document, write_report
    from lenssteer.studies.pages.compare import compare_document, planes_document

    make = planes_document if planes else compare_document
    document = make(result, command=command_line(), version=version("lenssteer"))
    if report is not None:
        write_report(document, report)
    if output is not None:
        write_document(document, output)


def _print_planes(result: dict[str, Any]) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import plain_table, short

    caption = (f"{result['measure']}; on {result['n']} selection prompts,\nthe same ones that sense and angle were "
               "chosen on")
    table = plain_table(f"planes of selective steering, KL allowed: {result['target_kl']:g}", caption,
                        ("plane", "success", "KL", "setting", "strength"))
    for row in result["rows"]:
        numbers = [short(row["success"]), f"{row['kl']:.4f}"] if "success" in row else ["", ""]
        table.add_row(row["plane"], *numbers, row["setting"], f"{row.get('strength', 0):.3g}")
    Console().print(table)
    typer.echo(f"{result['seconds']:.0f} s. Next:  lenssteer calibrate MODEL --plane NAME ...")


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import difference, plain_table, short

    title = f"test split, KL allowed on harmless prompts: {result['target_kl']:g} nats a token"
    caption = (f"{result['measure']}\nDifference: success minus that of the baseline, paired bootstrap 95 %.\n"
               "KL: on the test split; = where the strength that reaches the KL allowed\ndid best on the "
               "selection split.")
    table = plain_table(title, caption, ("method", "success", "kept", "KL", "- unsteered", "- prompt-only", "- random"))
    for row in result["rows"]:
        kl = f"{'=' if row['reached'] else ''}{short(row['kl_test'])}" if "kl_test" in row else ""
        table.add_row(row["method"], short(row["success"]), short(row["kept"]), kl,
                      *(difference(row["against"].get(name)) for name in ("unsteered", "prompt-only", "random")))
    console = Console()
    console.print(table)
    console.print("[bold]settings[/]", highlight=False)
    for row in result["rows"]:
        if "setting" in row:
            moved = row["moved"]
            wrong = f", {moved['wrong']} prompts moved the wrong way" if moved["wrong"] else ""
            console.print(f"  {row['method']:<17} {row['setting']}, strength {row['strength']:.3g}{wrong}",
                          highlight=False)
    typer.echo(f"{result['seconds']:.0f} s, {result['cost']['tokens']:,.0f} tokens, seed {result['seed']}, settings "
               f"chosen among {sum(result['arms'].values())} on the selection split.")
    if result["left_out"]:
        typer.echo(f"left out, since no setting of theirs worked here: {', '.join(result['left_out'])}")
