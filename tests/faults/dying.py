"""Commands in forked children of a process that has everything loaded, and children that something happens to."""

import importlib
import io
import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def preload() -> None:
    """Import what the commands import, and load the demo model once; nothing runs in parallel before a fork."""
    import torch

    torch.set_num_threads(1)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("gguf", "lm_eval.evaluator", "optuna", "sklearn.linear_model", "lenssteer.cli.main", "lenssteer.evals.benchmarks", "lenssteer.exports"):
        importlib.import_module(name)
    from lenssteer.models import load_model

    load_model("demo", backend="hf")


def quick() -> None:
    """In a child: keep pieces as soon as there are any, and read few prompts at once, so that there is much to kill."""
    from lenssteer.artefacts import unfinished
    from lenssteer.models import sizing

    unfinished.EVERY = unfinished.SHARE = 0
    sizing.CPU_TOKENS = 64


@dataclass
class Counted:
    """What a child did: steps that touch the disk, rows that were run, tasks that were measured."""

    steps: int = 0
    rows: int = 0
    tasks: int = 0


FAULTS = ("kill", "full", "interrupt")
"""SIGKILL, a disk that is full from then on, ctrl-C."""
NEEDS_ROOM = ("fsync", "mkdir", "write_bytes", "write_text", "copyfile", "save_file", "line", "write_header_to_file",
              "write_kv_data_to_file", "write_tensors_to_file")


def watched(counted: Counted, at: int | None = None, half: bool = False, fault: str = "kill") -> None:
    """In a child: count, and have something happen to this very process at a step; halfway through it where it writes a
    file.

    Steps are calls of the system that change names or flush, and writes of files.
    """
    def step(name: str, call: Callable[..., Any], torn: Callable[..., None] | None = None) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            counted.steps += 1
            late = at is not None and counted.steps >= at
            if not late or (counted.steps != at and fault != "full") or (fault == "full" and name not in NEEDS_ROOM):
                return call(*args, **options)
            if half and torn is not None:
                torn(*args, **options)
            elif half and fault != "full":
                call(*args, **options)
            return happen(fault, name)

        return run

    for name in ("replace", "rename", "fsync", "unlink", "mkdir", "truncate", "rmdir"):
        setattr(os, name, step(name, getattr(os, name)))
    write_bytes, write_text, copyfile = Path.write_bytes, Path.write_text, shutil.copyfile
    Path.write_bytes = step("write_bytes", write_bytes, lambda path, data: write_bytes(path, data[: len(data) // 2]))  # type: ignore[method-assign]
    Path.write_text = step("write_text", write_text, lambda path, text, **_: write_bytes(path, text.encode()[: len(text) // 2]))  # type: ignore[method-assign]
    shutil.copyfile = step("copyfile", copyfile, lambda a, b: write_bytes(Path(b), Path(a).read_bytes()[:99]))  # type: ignore[assignment]
    _tear_tensors(step)
    _tear_lines(step)
    _stop_between_parts_of_gguf(step)
    _count_work(counted)


def happen(fault: str, name: str) -> None:
    """What is to happen, now.

    Raises:
        OSError, SafetensorError: where the disk is full, as the call would.
        KeyboardInterrupt: for ctrl-C.
    """
    from safetensors import SafetensorError

    if fault == "full":
        full = "No space left on device"
        raise SafetensorError(f"Error while serializing: I/O error: {full} (os error 28)") if name == "save_file" else OSError(28, full)
    os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGINT)
    time.sleep(60)


def _tear_tensors(step: Callable[..., Any]) -> None:
    from safetensors.torch import save_file

    from lenssteer.artefacts import tensors
    from lenssteer.exports import torch_hooks
    from lenssteer.models import checkpoint

    def torn(content: Any, path: Path, *more: Any) -> None:
        save_file(content, path, *more)
        os.truncate(path, Path(path).stat().st_size // 2)

    for module in (tensors, torch_hooks, checkpoint):
        module.save_file = step("save_file", save_file, torn)  # type: ignore[attr-defined]


def _stop_between_parts_of_gguf(step: Callable[..., Any]) -> None:
    import gguf

    for name in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file"):
        setattr(gguf.GGUFWriter, name, step(name, getattr(gguf.GGUFWriter, name)))


class _Line(io.BufferedRandom):
    """A file of lines whose writes are steps."""

    step: Callable[..., Any]

    def write(self, line: Any) -> int:
        def torn(_: bytes) -> None:
            super(_Line, self).write(line[: len(line) // 2])
            super(_Line, self).flush()

        return type(self).step("line", super().write, torn)(line)


def _tear_lines(step: Callable[..., Any]) -> None:
    _Line.step = staticmethod(step)
    fdopen = os.fdopen

    def opened(handle: int, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode == "ab+":
            return _Line(io.FileIO(handle, "ab+"))
        return fdopen(handle, mode, *args, **options)

    os.fdopen = opened  # type: ignore[assignment]


def _count_work(counted: Counted) -> None:
    from lenssteer.evals.benchmarks import run
    from lenssteer.models.lens import LensModel

    forward, measured = LensModel.run, run._measured

    def counting(self: Any, ids: Any, *args: Any, **options: Any) -> Any:
        counted.rows += len(ids)
        return forward(self, ids, *args, **options)

    def task(*args: Any) -> Any:
        counted.tasks += 1
        return measured(*args)

    LensModel.run = counting  # type: ignore[method-assign]
    run._measured = task


def begin(arguments: list[str], folder: Path, *, at: int | None = None, half: bool = False, fault: str = "kill",
          before: Callable[[], object] = quick, watch: bool = True) -> int:
    """Start a command in a forked child, its output in `folder`/said; the id of the child.

    What the child counted goes to `folder`/counted when the command ends.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        counted, place = Counted(), os.fdopen(os.open(folder / "counted", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w")
        _interrupted_inside_only()
        before()
        if watch:
            watched(counted, at, half, fault)
        code = _command(arguments)
        place.write(f"{counted.steps} {counted.rows} {counted.tasks}")
        place.close()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _interrupted_inside_only() -> None:
    """Ctrl-C comes while the command is at work, neither while it is looked up nor once it has ended."""
    from lenssteer.cli import options

    start, end = options.begin, options.keep
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def begun() -> None:
        start()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def kept(*args: Any) -> None:
        end(*args)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    options.begin, options.keep = begun, kept


def _command(arguments: list[str]) -> int:
    from lenssteer.cli.main import app

    try:
        app(arguments)
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 71
    return 0


def ended(pid: int) -> int:
    """Exit code of a child; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ended_after(pid: int, seconds: float, fault: int = signal.SIGKILL) -> int:
    """Exit code of a child that is sent a signal after a time, unless it has ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, fault)
    return ended(pid)


def counted(folder: Path) -> Counted:
    """What the last child counted."""
    return Counted(*map(int, (folder / "counted").read_text().split()))


def content(place: Path) -> Mapping[str, Any]:
    """All that files hold but seconds; JSON parsed, other files as bytes; what processes share is left out.

    So are tensors that no description names any more: an older result's, where a process died before it removed them.
    """
    files = [place] if place.is_file() else sorted(one for one in place.rglob("*") if one.is_file())
    named = "".join(one.read_text() for one in files if one.suffix == ".json")
    return {str(one.relative_to(place.parent)): _told(one) for one in files if one.name not in ("lock", "trials.journal")
            and (not one.name.startswith("tensors-") or one.name in named)}


def _told(path: Path) -> Any:
    if path.suffix in (".json", ".jsonl"):
        lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        return [timeless(json.loads(line)) for line in lines]
    return path.read_bytes()


def timeless(value: Any) -> Any:
    """JSON without seconds."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key != "seconds"}
    return [timeless(one) for one in value] if isinstance(value, list) else value
