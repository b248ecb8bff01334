"""Tasks of a pool, and what becomes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lenssteer import errors
from lenssteer.cluster.worker import Failed, ModelSpec, Started, versions
from lenssteer.errors import LenssteerError, MismatchError
from lenssteer.models import ModelCard


@dataclass(frozen=True, eq=False)
class Task:
    """Work on one model.

    Args:
        model: Loaded where the task runs, unless it is there.
        work: A function of a module that workers can import; its first argument is the model.
        args: The others. What `Pool.share` returned is replaced by what was shared.
        halves: Makes smaller tasks of this one, for when it costs workers; None where it cannot be divided.
        key: What the caller knows it by.
        deaths: Workers that were lost with it, or with what it is a half of.
    """

    model: ModelSpec
    work: Callable[..., Any]
    args: tuple[Any, ...] = ()
    halves: Callable[[], Sequence["Task"]] | None = None
    key: Any = None
    deaths: int = 0


@dataclass(frozen=True)
class Lost:
    """The result of a task whose workers died."""

    message: str


def require_same_versions(worker: Started) -> None:
    """Refuse a worker that would compute with other code.

    Raises:
        MismatchError: with every package that differs.
    """
    ours = versions()
    other = [name for name in ours if worker.versions.get(name) != ours[name]]
    if other:
        told = "; ".join(f"{name} is {worker.versions.get(name, 'absent')} there and {ours[name]} here"
                         for name in other)
        raise MismatchError(f"the worker on {worker.node} has other versions: {told}. Install the same on every node.")


def require_same_weights(first: ModelCard, other: ModelCard) -> None:
    """Refuse two workers that loaded different models by one name.

    Raises:
        MismatchError: with both cards.
    """
    if first != other:
        raise MismatchError(f"{first.name} is not the same model on every worker: {first} on one, {other} on another; "
                            "put the same files on every node.")


def error_of(failed: Failed) -> LenssteerError:
    """The error of a worker, of its own class where it is one of lenssteer's."""
    kind = getattr(errors, failed.kind, None) if failed.kind else None
    if isinstance(kind, type) and issubclass(kind, LenssteerError):
        return kind(failed.message)
    return LenssteerError(f"a worker on {failed.node} failed:\n{failed.message}")


def in_one_line(reason: str) -> str:
    """Ray's reason without its list of ids."""
    lines = [line.strip() for line in reason.splitlines() if line.strip() and not line.startswith("\t")]
    return " ".join(lines)[:300]
