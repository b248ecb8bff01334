"""Options that several commands share, and how commands speak: JSON on request, errors in one clear line."""

import functools
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lenssteer.cli.complete import complete_models
from lenssteer.cli.record import begin, keep, loaded
from lenssteer.errors import LenssteerError
from lenssteer.progress import silent
from lenssteer.values import named_values as named_values

Command = TypeVar("Command", bound=Callable[..., Any])


class Backend(StrEnum):
    """Which library runs the model."""

    hooked = "hooked"
    bridge = "bridge"
    hf = "hf"


ModelName = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=complete_models,
                                          help='"demo", "demo-chat", a local folder, or a hub id.')]
BackendOption = Annotated[Backend, typer.Option(help="hooked: HookedTransformer; bridge: TransformerBridge; "
                                                "hf: plain transformers, the fastest.")]
DeviceOption = Annotated[str, typer.Option(help="Such as cpu, cuda or mps; with backends hf and bridge also auto, "
                                           "which spreads the layers over what there is.")]
DtypeOption = Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")]
TemplateOption = Annotated[str | None, typer.Option(
    callback=lambda value: value.replace("\\n", "\n") if value else value,
    help="auto, chat, none, or a pattern such as 'User: {prompt}\\nBot:'. By default the calibration's, else auto.")]
SystemOption = Annotated[str | None, typer.Option(help="System prompt.")]
RayOption = Annotated[str | None, typer.Option("--ray", metavar="ADDRESS|local", help="Spread the work over a Ray "
                                               "cluster: HOST:PORT of its head, auto, or local for this machine.")]
WorkersOption = Annotated[int | None, typer.Option(help="With --ray: how many workers, each with the model; by default "
                                                   "one a core, at most eight a node.")]
GpusOption = Annotated[float | None, typer.Option(help="With --ray: GPUs of a worker, 0.5 for half of one; by default "
                                                  "one with a cuda device, else none.")]
BatchSizeOption = Annotated[Any, typer.Option(
    metavar="N|auto", parser=str, callback=lambda text: _batch_size(text), show_default="auto",
    help="Most rows of a batch; auto finds it from the memory that is free.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


KEEPS = ("auto", "calibrate", "evaluate", "search", "sweep")
"""Commands that keep what is finished in their output folder, or beside their file, so that the same command goes on
from there."""
PIECES = ("calibrate", "evaluate")
"""Those that keep pieces until the result is written; see `lenssteer.artefacts.unfinished`."""
INTERRUPTED = 130


def friendly(command: Command) -> Command:
    """Show a LenssteerError as one message with exit code 1, ctrl-C with 130, and warnings as one line each."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        as_json = bool(kwargs.get("as_json"))
        with warnings.catch_warnings(), silent() if as_json else nullcontext():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            begin()
            try:
                result = command(*args, **kwargs)
                keep(command.__name__, kwargs)
                return result
            except LenssteerError as error:
                _fail(type(error).__name__, str(error), as_json)
                raise typer.Exit(1) from error
            except KeyboardInterrupt as error:
                _fail("Interrupted", _how_to_go_on(command.__name__, kwargs.get("output")), as_json)
                raise typer.Exit(INTERRUPTED) from error

    return wrapped  # type: ignore[return-value]  # same signature, as functools.wraps tells typer


def _fail(kind: str, message: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": {"type": kind, "message": message}}))
    typer.secho(f"{kind}: {message}", fg=typer.colors.RED, err=True)


def _how_to_go_on(command: str, output: Path | None) -> str:
    """What is left of an interrupted command."""
    from lenssteer.artefacts.lines import pieces_beside, pieces_inside

    places = [] if output is None else [pieces_inside(output), pieces_beside(output)] if command in PIECES else [output]
    place = next((place for place in places if place.exists()), None)
    if command in KEEPS and (place or (output is None and command not in PIECES)):
        return f"what is finished is kept{f' in {place}' if place else ''}; the same command goes on from there."
    return "nothing was written; the same command begins anew."


def _show_warning(message: Warning | str, *_place: Any) -> None:
    typer.secho(f"warning: {message}", fg=typer.colors.YELLOW, err=True)


def _batch_size(text: str | None) -> int | None:
    if text in (None, "auto"):
        return None
    if not (text.isdecimal() and int(text)):
        raise typer.BadParameter("expected a number of at least 1, or auto.")
    return int(text)


def load(name: str, backend: Backend, device: str, dtype: str, template: str | None, *, check: bool = True) -> Any:
    """Load the model a command names, with a spinner while it loads."""
    from rich.console import Console

    from lenssteer.models import load_model

    with Console(stderr=True).status(f"loading {name}") if sys.stderr.isatty() else nullcontext():
        lens = load_model(name, backend=backend.value, device=device, dtype=dtype, template=template or "auto",
                          check=check)
    loaded(lens.card, dtype)
    return lens


def emit(result: Any) -> None:
    """Print a result as JSON."""
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False, default=str))


def require_writable(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed.

    Raises:
        FileError: when the nearest folder that exists is not a writable folder.
    """
    from lenssteer.errors import FileError

    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise FileError(f"cannot write {path}: {existing} is not a writable folder.")


def folder_kind(folder: Path) -> str:
    """Whether a folder holds a calibration or a steerer.

    Raises:
        FileError: when it holds neither.
    """
    from lenssteer.errors import FileError
    from lenssteer.steering.files import elsewhere

    for kind in ("calibration", "steerer"):
        if (folder / f"{kind}.json").is_file():
            return kind
    raise FileError(f"{folder} holds no calibration and no steerer; make one with `lenssteer calibrate`."
                    + elsewhere(folder, "steerer", "calibration"))


def command_line() -> str:
    """The command as it was given, so that it can be given again."""
    return shlex.join(["lenssteer", *sys.argv[1:]])


def warn_of_seen(seen: Sequence[str], asked: Sequence[str]) -> None:
    """Warn where settings are tried on prompts that were calibrated on."""
    from lenssteer.prompts import PromptWarning, prompt_hash

    known = set(seen)
    leaked = sum(prompt_hash(prompt) in known for prompt in asked)
    if leaked:
        warnings.warn(f"{leaked} of {len(asked)} prompts were calibrated on, so what is found on them flatters the "
                      "method; use others.", PromptWarning, stacklevel=2)
