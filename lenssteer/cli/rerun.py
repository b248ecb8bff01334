"""`lenssteer rerun`: a run again, from its own record, and every number beside the recorded one."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lenssteer.artefacts.comparing import TOLERANCE
from lenssteer.cli.options import JsonOption, emit, friendly

SHOWN = 20
"""Differences printed; --json has all."""


@friendly
def rerun(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder or JSON file that a command wrote with -o.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the new run is kept; by default it is "
                                                "thrown away.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of a number's size, at least of 1: differences up to it are told "
                                             "apart, but are none.")] = TOLERANCE,
    as_json: JsonOption = False,
) -> None:
    """Repeat a run from its own record and compare every number; exit code 1 where one differs.

    Repeats calibrate, refusal, select, sweep, search, auto, compare, eval, converse, reproduce and demo. Give it in the
    folder that the run was started in, since the record names files as the command did.
    """
    from lenssteer.artefacts.comparing import compare
    from lenssteer.cli.record import read_run
    from lenssteer.errors import FileError, ParameterError

    if not tolerance >= 0:
        raise ParameterError(f"the tolerance is {tolerance}; expected a number of at least 0.")
    if output is not None and output.exists():
        raise FileError(f"{output} exists already; name one that does not, so that the run begins anew.")
    record = read_run(run)
    missing = [name for made in record["commands"] for name in made["inputs"] if not Path(name).exists()]
    if missing:
        raise FileError(f"the run read {', '.join(missing)}, which is not there; give the command in the folder that "
                        "the run was started in.")
    with _kept(output, run) as place:
        for made in record["commands"]:
            _repeat(made, place)
        found = compare(run, place, tolerance)
        changed = _changed(record["commands"][-1], read_run(place)["commands"][-1])
    result = {"run": str(run), "output": str(output) if output else None, "tolerance": tolerance, "equal": found.equal,
              "within": found.within, "largest": found.largest, "different": len(found.different),
              "environment": changed, "differences": [{"where": where, "recorded": recorded, "now": now}
                                                      for where, recorded, now in found.different]}
    emit(result) if as_json else _print(result)
    if found.different:
        raise typer.Exit(1)


@contextmanager
def _kept(output: Path | None, run: Path) -> Iterator[Path]:
    """Where the new run goes: as asked, or into a folder that goes away."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield output
        return
    with TemporaryDirectory(prefix="lenssteer-rerun-") as folder:
        yield Path(folder) / run.name


def _repeat(made: Mapping[str, Any], place: Path) -> None:
    """Give a command again; what it prints goes nowhere.

    Raises:
        LenssteerError: when it fails.
    """
    from typer.main import get_command

    from lenssteer.cli.main import NAMES, app
    from lenssteer.errors import LenssteerError

    name = (NAMES.get(made["command"]) or made["command"]).replace("_", "-")
    group: Any = get_command(app)
    command = group.commands.get(name)
    given = [name, *arguments(command, made["options"], place)] if command is not None else []
    if not given:
        raise LenssteerError(f"this lenssteer has no command {name}; use the version that made the run.")
    with redirect_stdout(io.StringIO()):
        code = app(args=given, standalone_mode=False)
    if code:
        raise LenssteerError(f"the command of the run fails here with exit code {code}; the reason stands above.")


def arguments(command: Any, options: Mapping[str, Any], place: Path) -> list[str]:
    """What is written after a command's name to have options again, with its result elsewhere.

    Args:
        command: Of typer.
        options: By the names of its parameters; None and those left out have their default.
        place: Of the result.

    Raises:
        ParameterError: when the command has no such option.
    """
    from lenssteer.errors import ParameterError

    known = {one.name: one for one in command.params}
    foreign = [name for name in options if name not in known]
    if foreign:
        raise ParameterError(f"{command.name} has no {', '.join(foreign)}; use the version of lenssteer that made the "
                             "run.")
    words, last = [], []
    for name, value in options.items():
        one = known[name]
        values = value if isinstance(value, list) else [value]
        if one.param_type_name == "argument":
            last += map(str, values)
        elif isinstance(value, bool) and one.is_flag:
            words += [_long(one.opts)] if value else one.secondary_opts[-1:]
        else:
            words += [f"{_long(one.opts)}={part}" for part in values]
    page = [f"--report={place.with_suffix('.html')}"] if known.get("report") and known["report"].default else []
    return [*words, *page, f"--output={place}", "--", *last]


def _long(names: Sequence[str]) -> str:
    return next(name for name in names if name.startswith("--"))


def _changed(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of the environment is not as it was."""
    found = []
    for part in ("versions", "machine", "inputs"):
        for name in dict.fromkeys([*recorded[part], *now[part]]):
            before, after = recorded[part].get(name), now[part].get(name)
            if before != after:
                found.append(f"{name} has changed" if part == "inputs" else
                             f"{name}: {before or 'absent'}, now {after or 'absent'}")
    if recorded["models"] != now["models"]:
        found.append(f"model: {json.dumps(recorded['models'])}, now {json.dumps(now['models'])}")
    return found


def _print(result: Mapping[str, Any]) -> None:
    for one in result["differences"][:SHOWN]:
        typer.echo(f"{one['where']}: {_short(one['recorded'])}, now {_short(one['now'])}")
    if result["different"] > SHOWN:
        typer.echo(f"... and {result['different'] - SHOWN} more; --json has all.")
    for line in result["environment"]:
        typer.echo(f"environment: {line}")
    within = f" (by at most {result['largest']:.1e})" if result["within"] else ""
    typer.secho(f"{result['run']}: {result['equal']:,} values equal, {result['within']:,} within "
                f"{result['tolerance']:g}{within}, {result['different']:,} different",
                fg=typer.colors.RED if result["different"] else typer.colors.GREEN)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:100] + "..."
