"""`run.json`: what a command was asked, with what, on what and by what, so that `lenssteer rerun` can ask it again.

It stands in the folder of a run, or beside its file as NAME.run.json, and is written when a command ended well.
"""

import json
import platform
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.artefacts.comparing import RUN
from lenssteer.artefacts.reading import opened, read_object, sha256_of_file
from lenssteer.artefacts.writing import write_text
from lenssteer.errors import FileError

RECORDED = ("auto", "calibrate", "compare", "converse", "demo", "evaluate", "refusal", "reproduce", "search", "select",
            "sweep")
"""Functions of the commands that can be repeated from their record."""
ADDS = ("sweep",)
"""Those of which several may fill one folder."""
ELSEWHERE = ("output", "report", "as_json")
"""Options that say where a result goes, not what it is."""
PACKAGES = ("lenssteer", "torch", "transformers", "transformer-lens", "tokenizers", "numpy", "scipy", "scikit-learn",
            "safetensors", "optuna", "lm-eval", "vllm", "ray")

_seen: ContextVar[dict[str, Any] | None] = ContextVar("seen", default=None)


def begin() -> None:
    """Forget what an earlier command of this process loaded."""
    _seen.set({"models": [], "output": None})


def loaded(card: Any, dtype: str) -> None:
    """Note a model that the command uses."""
    seen = _seen.get()
    if seen is not None:
        seen["models"].append({**asdict(card), "dtype": dtype})


def writes_to(output: Path) -> None:
    """Note where a command writes that was not told where."""
    seen = _seen.get()
    if seen is not None:
        seen["output"] = output


def place_of(output: Path) -> Path:
    """Where the record of a folder or a file stands."""
    return output / RUN if output.is_dir() else output.with_name(f"{output.stem}.{RUN}")


def keep(command: str, options: Mapping[str, Any]) -> None:
    """Write the record of a command that ended well; nothing where it wrote no result.

    Raises:
        FileError: when it cannot be written, or a file the command read is gone.
    """
    seen = _seen.get() or {"models": [], "output": None}
    output = seen["output"] or options.get("output")
    if command not in RECORDED or not isinstance(output, Path) or not output.exists():
        return
    asked = {name: _plain(value) for name, value in options.items() if name not in ELSEWHERE and value is not None}
    try:
        inputs = _inputs(options)
    except OSError as error:
        raise FileError(f"the result is written, its record is not: {error}; give the command again.") from error
    made = {"command": command, "options": asked, "inputs": inputs, "models": seen["models"], "versions": versions(),
            "machine": machine()}
    place, earlier = place_of(output), []
    if command in ADDS and place.exists():
        earlier = [one for one in read_run(output)["commands"] if one["options"] != made["options"]]
    record = {"kind": "run", "format": 1, "commands": [*earlier, made]}
    write_text(place, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read_run(output: Path) -> dict[str, Any]:
    """The record of a folder or a file.

    Raises:
        FileError: when there is none, or it is damaged.
    """
    from lenssteer.artefacts.schema.record import described
    from lenssteer.artefacts.schema.run import Run

    place = place_of(output)
    try:
        found, text = read_object(place)
    except OSError as error:
        raise FileError(f"{output} has no record to repeat it from: {place} cannot be read ({error.strerror}). "
                        "Commands write one when they end; give the command itself again.") from error
    described(Run, text, place)
    return found


def _plain(value: Any) -> Any:
    """An option as JSON."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, bool | int | float | str) else str(value)


def _inputs(options: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files that options name, and of artefacts' descriptions, which hash their tensors themselves."""
    found = {}
    for name, value in options.items():
        if name in ELSEWHERE or not isinstance(value, Path):
            continue
        files = [value] if value.is_file() else sorted(value.glob("*.json")) if value.is_dir() else []
        for path in (one for one in files if not one.name.endswith(RUN)):
            with opened(path, limits.TENSORS) as file:
                found[str(path)] = sha256_of_file(file)
    return found


def versions() -> dict[str, str]:
    """Python and the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int | None]:
    """System, processor, threads and accelerator."""
    torch: Any = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
    return {"system": platform.system(), "machine": platform.machine(), "processor": _processor(),
            "threads": torch.get_num_threads() if torch is not None else None, "gpu": gpu}


def _processor() -> str:
    """Its name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
