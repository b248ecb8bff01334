"""A connection to a Ray cluster: quiet, on loopback where it is this machine's own, and closed again."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lenssteer.errors import LenssteerError, ParameterError

LOCAL = "local"
MOST_A_NODE = 8
"""Workers a node where nobody says how many: each holds a model of its own."""


def needed() -> Any:
    """Ray.

    Raises:
        LenssteerError: when it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise LenssteerError("a cluster needs Ray: pip install 'lenssteer[ray]'.") from error
    return ray


@contextmanager
def connected(address: str, cores: int | None = None) -> Iterator[None]:
    """Be connected in a `with` block; a connection that is there already is used and left as it is.

    Args:
        address: HOST:PORT of a cluster's head, "auto" for the cluster of this machine, or "local" for one of its own.
        cores: Of a cluster of its own; by default those this process may use.

    Raises:
        LenssteerError: when Ray is not installed, or no cluster answers.
        ParameterError: when the address is one of Ray's client, which needs another server.
    """
    ray = needed()
    if address.startswith("ray://"):
        raise ParameterError(f"{address} is an address of Ray's client; give that of the cluster's head, such as "
                             f"{address.removeprefix('ray://').partition(':')[0]}:6379, and run on a machine of the "
                             "cluster.")
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        with environment(address == LOCAL):
            try:
                if address == LOCAL:
                    ray.init("local", num_cpus=cores or usable_cores(), include_dashboard=False, **quiet)
                else:
                    ray.init(address, **quiet)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise LenssteerError(f"no Ray cluster at {address}: {str(error).splitlines()[0]} Start one with "
                                     "`ray start --head`, or use local.") from error
            yield
    finally:
        ray.shutdown()


@contextmanager
def environment(own: bool) -> Iterator[None]:
    """No usage statistics; a cluster of its own listens on loopback only, which Ray does by itself on macOS alone."""
    from ray._private import ray_constants as constants

    wanted = {"RAY_USAGE_STATS_ENABLED": "0", **({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if own else {})}
    before = {name: os.environ.get(name) for name in wanted}
    reaches_out = constants.ENABLE_RAY_CLUSTER
    os.environ.update(wanted)
    constants.ENABLE_RAY_CLUSTER = reaches_out and not own
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = reaches_out
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Staff:
    """How many workers there are, and what each takes.

    Args:
        workers: Most of them.
        cpus: Cores of each, and threads of torch.
        gpus: GPUs of each; a share where several use one.
    """

    workers: int
    cpus: int
    gpus: float | int = 0


def staff(nodes: Sequence[tuple[float | int, float | int]], workers: int | None = None,
          gpus: float | int = 0) -> Staff:
    """Divide nodes into workers.

    Without a number there is one worker a GPU share, or one a core and at most eight a node. Cores are divided evenly:
    each worker gets the most with which all of them fit.

    >>> staff([(16, 0), (16, 0)], workers=4)
    Staff(workers=4, cpus=8, gpus=0)

    Args:
        nodes: Cores and GPUs of each.
        workers: How many.
        gpus: GPUs of each worker.

    Raises:
        ParameterError: when a number is out of range.
    """
    if (workers is not None and workers < 1) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise ParameterError(f"expected at least one worker, and a share of a GPU or whole ones for each; got "
                             f"{workers} workers with {gpus:g} GPUs.")

    def room(cpus: int) -> int:
        return sum(min(int(cores // cpus), int(cards // gpus) if gpus else MOST_A_NODE if workers is None else 10**9)
                   for cores, cards in nodes)

    count = workers or max(1, room(1))
    most = max((int(cores) for cores, _ in nodes), default=1)
    fitting = [cpus for cpus in range(1, most + 1) if room(cpus) >= count]
    return Staff(count, max(fitting, default=1), gpus)
