"""`lenssteer runs`: what a folder holds of earlier work, finished or not; reads JSON only."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import JsonOption, emit, friendly

DEPTH = 5
HIGH = ("on_form", "answers", "exact")
"""Scores of which more is better, in the order in which a sweep is told by them."""
UNFINISHED = "unfinished"
DAMAGED = "damaged"


@dataclass(frozen=True)
class Run:
    """One artefact or run.

    Args:
        folder: Where it is; of a report, the file.
        kind: calibration, steerer, sweep, search, auto, report or reproduction.
        date: When it was last written, local time.
        model: Name of the model; "" where it is not said.
        state: "finished", "damaged", or what is still missing.
        best: What came of it, in a few words.
    """

    folder: str
    kind: str
    date: str
    model: str
    state: str
    best: str


@friendly
def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Searched with its subfolders.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """List earlier work: calibrations, steerers, sweeps, searches, reports; its state and its best setting."""
    from lenssteer.errors import FileError

    if not folder.is_dir():
        raise FileError(f"{folder} is not a folder; give one that holds runs, such as runs/.")
    found = sorted(find_runs(folder), key=lambda run: run.date, reverse=True)
    if as_json:
        emit({"runs": [asdict(run) for run in found]})
        return
    if not found:
        typer.echo(f"{folder.resolve()} holds no runs.\nNext:  lenssteer auto demo --concept refusal -o runs/first")
        return
    _print(found)
    stopped = [run for run in found if run.state.startswith(UNFINISHED)]
    if stopped:
        typer.echo(f"{len(stopped)} unfinished: the command that began a run goes on with it.")


def find_runs(folder: Path, depth: int = DEPTH) -> Iterator[Run]:
    """Every run below a folder; what a run of `lenssteer auto` made is part of it and not listed again."""
    for name, read in READERS.items():
        if os.path.isfile(folder / name):
            yield _told(folder, folder / name, name.removesuffix(".json"), read)
    if os.path.isfile(folder / "auto.json"):
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if depth and not entry.name.startswith((".", "_")) and not os.path.exists(f"{entry.path}/pyvenv.cfg"):
                yield from find_runs(Path(entry.path), depth - 1)
        elif entry.name.endswith(".json") and entry.name not in READERS and _is_report(Path(entry.path)):
            yield _told(Path(entry.path), Path(entry.path), "report", _report)


def _told(place: Path, header: Path, kind: str, read: Callable[[Path, dict[str, Any]], dict[str, str]]) -> Run:
    newest = max((path.stat().st_mtime for path in (header, *header.parent.glob("*.json*")) if path.is_file()
                  and (place.is_dir() or path == header)), default=0.0)
    date = datetime.fromtimestamp(newest).strftime("%Y-%m-%d %H:%M")
    from lenssteer.artefacts.reading import read_object
    from lenssteer.errors import LenssteerError

    try:
        record = read_object(header)[0]
        told = {"kind": kind, "model": "", "state": "finished", "best": "", **read(header.parent, record)}
    except (OSError, LenssteerError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        told = {"kind": kind, "model": "", "state": DAMAGED, "best": ""}
    return Run(str(place), date=date, **told)


def _calibration(_folder: Path, record: dict[str, Any]) -> dict[str, str]:
    return {"model": _short(record["model"]["name"]), "best": f"direction of {record['direction']}"}


def _steerer(_folder: Path, record: dict[str, Any]) -> dict[str, str]:
    said = record["provenance"]
    amounts = [f"{name} {said[name]:g}" for name in ("degrees", "coefficient", "strength", "alpha", "factor")
               if isinstance(said.get(name), int | float)]
    return {"model": _short(record["model"]["name"]), "best": " ".join([str(said.get("method", "")), *amounts])}


def _sweep(folder: Path, record: dict[str, Any]) -> dict[str, str]:
    from lenssteer.cells import read_cells

    rows, planned = read_cells(folder), len(record["cells"])
    state = "finished" if len(rows) >= planned else f"{UNFINISHED}: {len(rows)} of {planned} settings"
    name = next((score for score in HIGH if any(row.mean(score) is not None for row in rows)), None)
    steered = [row for row in rows if name and row.mean(name) is not None and row.method != "unsteered"]
    best = max(steered, key=lambda row: row.mean(name or "") or 0.0, default=None)
    return {"model": _short((record.get("card") or {}).get("name", "")), "state": state,
            "best": f"{best.label}: {name} {best.mean(name or ''):.2f}" if best else ""}


def _search(folder: Path, record: dict[str, Any]) -> dict[str, str]:
    method = record.get("about", {}).get("method", "")
    if not (folder / "result.json").is_file():
        return {"state": UNFINISHED, "best": method}
    from lenssteer.artefacts.reading import read_object

    found = read_object(folder / "result.json")[0]
    if found["amount"] is None:
        return {"best": f"{method}: no setting"}
    goal = found["objective"].partition(":")[0]
    kept = "" if found["feasible"] else ", breaks a constraint"
    return {"best": f"{method} {found['name']} {found['amount']:g}: {goal} "
                    f"{found['finalists'][0]['means'][goal]:.2f}{kept}"}


def _auto(folder: Path, record: dict[str, Any]) -> dict[str, str]:
    if not (folder / "card.json").is_file():
        return {"state": UNFINISHED, "best": record["concept"]}
    from lenssteer.artefacts.reading import read_object

    card = read_object(folder / "card.json")[0]
    name, amount = next(iter(card["amount"].items()))
    goal = card["objective"].partition(":")[0]
    plain, steered = (row["positive"][goal]["mean"] for row in card["rows"][:2])
    return {"model": _short(card["model"]["name"]),
            "best": f"{card['concept']}, {card['method']} {name} {amount:g}: {goal} {plain:.2f} -> {steered:.2f}"}


def _report(_folder: Path, record: dict[str, Any]) -> dict[str, str]:
    command = str(record.get("command", "")).split()
    kind = "reproduction" if command[1:2] == ["reproduce"] else "report"
    return {"kind": kind, "model": _short(record["model"].get("name", "")), "best": record["title"]}


READERS: dict[str, Callable[[Path, dict[str, Any]], dict[str, str]]] = {
    "auto.json": _auto, "calibration.json": _calibration, "steerer.json": _steerer, "sweep.json": _sweep,
    "search.json": _search}


def _is_report(path: Path) -> bool:
    """Whether a JSON file starts as a document does."""
    from lenssteer.artefacts.reading import opened
    from lenssteer.errors import FileError

    try:
        with opened(path, 1 << 62) as file:
            return file.read(80).replace(b" ", b"").replace(b"\n", b"").startswith(b'{"title":"')
    except (OSError, FileError):
        return False


def _short(model: str) -> str:
    """Name of a model without the folders it is in."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", ".")) else model


def _print(found: list[Run]) -> None:
    for run in found:
        colour = {"finished": typer.colors.GREEN, DAMAGED: typer.colors.RED}.get(run.state, typer.colors.YELLOW)
        about = ", ".join(part for part in (run.date, run.model, run.best) if part)
        typer.echo(f"{typer.style(run.folder, bold=True)}  {run.kind}, {typer.style(run.state, fg=colour)}")
        typer.secho(f"    {about}", dim=True)
