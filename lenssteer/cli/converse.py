"""`lenssteer converse`: conversations of several turns, steered beside unsteered, turn by turn."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_methods, complete_where
from lenssteer.cli.generate import steerer_of
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelName,
    SystemOption,
    TemplateOption,
    emit,
    folder_kind,
    friendly,
    load,
    named_values,
    require_writable,
)


@friendly
def converse(
    model: ModelName,
    conversations: Annotated[Path, typer.Option(help='What the user says: JSONL or JSON records with "turns" (as '
                                                "MT-Bench's question.jsonl) or \"messages\", or lists of strings.")],
    turns: Annotated[int | None, typer.Option(help="Most turns of a conversation; all by default.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most conversations, from the start of the file.")] = None,
    chain: Annotated[int, typer.Option(help="Put so many conversations of the file one after the other into one.")] = 1,
    steer: Annotated[Path | None, typer.Option(help="Calibration or steerer folder; none: unsteered alone.")] = None,
    method: Annotated[str, typer.Option(autocompletion=complete_methods,
                                        help="With a calibration: a name that `lenssteer methods` lists.")]
    = "selective",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method; "
                                                       "may be repeated.")] = None,
    sites: Annotated[str | None, typer.Option(help="discriminative, all, or sites such as resid_post.5,"
                                              "resid_post.6.")] = None,
    source: Annotated[str | None, typer.Option(help="Site whose direction is used.")] = None,
    where: Annotated[str | None, typer.Option(autocompletion=complete_where,
                                              help="all, prompt, generated, ...; by default the method's own.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    batch_size: BatchSizeOption = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of sampling and of the bootstrap.")] = 0,
    show_completions: Annotated[bool, typer.Option("--show-completions", help="Keep and print what was said.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the result is written as JSON.")] = None,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Hold conversations, steered and not: repetition, drift, refusals and length at each turn."""
    from lenssteer.artefacts.writing import write_text
    from lenssteer.evals.multi_turn import multi_turn
    from lenssteer.models import Decoding
    from lenssteer.prompts.conversations import read_conversations

    if output is not None:
        require_writable(output)
    asked = read_conversations(conversations, chain=chain, turns=turns)[:limit]
    steerer, template = steerer_of(steer, method, named_values(settings or []), sites, source, where, template)
    lens = load(model, backend, device, dtype, template)
    result = multi_turn(lens, asked, steerer, Decoding(max_new_tokens, temperature, seed=seed),
                        direction=_direction(steer, source), system=system, batch_size=batch_size, seed=seed,
                        keep_texts=show_completions, progress=sys.stderr.isatty())
    record = {"model": asdict(lens.card), "conversations_file": str(conversations), "method": steerer and method,
              "max_new_tokens": max_new_tokens, "system": system, "template": lens.template, **result}
    if output is not None:
        write_text(output, json.dumps(record, indent=2, ensure_ascii=False) + "\n",
                   follow=True, make_folder=True)
    if as_json:
        emit(record)
        return
    _print(record)
    if output is not None:
        typer.echo(f"written: {output}")


def _direction(folder: Path | None, source: str | None) -> Any:
    """The calibration's direction, which drift is read along; None where a steerer or nothing was given."""
    from lenssteer.recipe import Calibration

    if folder is None or folder_kind(folder) != "calibration":
        return None
    calibration = Calibration.load(folder)
    return (calibration.at_source(source) if source else calibration).direction


def _print(record: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    for name, arm in record["arms"].items():
        console.print(_table(name, arm))
        for reason, count in arm["ended"].items():
            console.print(f"  {count} of {record['conversations']} ended early: {reason}", highlight=False)
    for score, meaning in record["measures"].items():
        console.print(f"  [dim]{score}: {meaning}[/]", highlight=False)
    if record["difference"]:
        console.print(_differences(record["difference"]))
    for said in record.get("texts", []):
        for turn, (user, *answers) in enumerate(zip(said["user"], *said["answers"].values(), strict=False)):
            console.print(f"[bold]{turn + 1}[/] {user}", highlight=False, soft_wrap=True)
            for name, answer in zip(said["answers"], answers, strict=True):
                console.print(f"    {name}: {answer}", highlight=False, markup=False, soft_wrap=True)
    typer.echo(f"{record['cost']['seconds']:.0f} s, {record['cost']['tokens']:.0f} tokens, seed {record['seed']}. "
               "Next:  --show-completions, or -o FILE.json")


def _table(name: str, arm: dict[str, Any]) -> Any:
    """Every score at every turn, and its change a turn."""
    from lenssteer.cli.tables import plain_table

    turns = len(arm["reached"])
    table = plain_table(name, "last column: slope of a conversation's scores over its turns",
                        ("", *(f"turn {turn + 1}" for turn in range(turns)), "- a turn"))
    table.add_row("conversations", *map(str, arm["reached"]), "")
    for score, found in arm["scores"].items():
        shown = [*map(_number, found["turns"]), *[""] * turns][:turns]
        table.add_row(score, *shown, _interval(found["slope"]))
    return table


def _differences(found: dict[str, Any]) -> Any:
    from lenssteer.cli.tables import plain_table

    table = plain_table("steered less unsteered, in the same conversations", "[95 % bootstrap over conversations]; "
                        "last column: steered drift a turn less unsteered drift a turn",
                        ("score", "- first turn", "- last turn both reached", "- drift a turn"))
    for score, drift in found.items():
        scored = [one for one in drift["turns"] if one["n"]]
        ends = (scored[0], scored[-1]) if scored else ({"mean": None}, {"mean": None})
        table.add_row(score, *map(_interval, ends), _interval(drift["slope"]))
    return table


def _number(found: dict[str, Any]) -> str:
    return "" if found["mean"] is None else f"{found['mean']:.2f}"


def _interval(found: dict[str, Any]) -> str:
    """A mean with its interval."""
    if found["mean"] is None:
        return "unscored"
    ends = f"[{found['low']:.2f},{found['high']:.2f}]" if found["low"] is not None else ""
    return f"{found['mean']:.2f}{ends}"
