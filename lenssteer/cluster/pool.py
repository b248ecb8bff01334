"""A pool of workers that is given tasks, and outlives the workers it loses."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from lenssteer.cluster.connection import LOCAL, Staff, connected, needed, staff, usable_cores
from lenssteer.cluster.task import Lost, Task, error_of, in_one_line, require_same_versions, require_same_weights
from lenssteer.cluster.worker import Done, Failed, ModelSpec, Started, Worker
from lenssteer.errors import LenssteerError, ParameterError
from lenssteer.models import ModelCard

MOST_DEATHS = 3
"""Workers that a task may cost."""
PATIENCE = 300.0
"""Seconds to wait for a first worker."""


@dataclass(eq=False)
class _Hand:
    """A worker as the driver knows it: starting, idle or busy with a task."""

    actor: Any
    waits_for: Any
    task: Task | None = None
    model: ModelSpec | None = None
    started: bool = False


class Pool:
    """Workers on a Ray cluster; use it in a `with` block.

    Args:
        address: HOST:PORT of a cluster's head, "auto" for the cluster of this machine, or "local" for a cluster of
            its own on this machine.
        workers: How many; by default one a GPU share, or one a core and at most eight a node.
        gpus_per_worker: GPUs of each; 0.5 lets two share one.
        patience: Seconds to wait for a first worker.

    Raises:
        ParameterError: when a number is out of range.
        LenssteerError: when Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str = LOCAL, *, workers: int | None = None, gpus_per_worker: float | int = 0,
                 patience: float = PATIENCE) -> None:
        staff([], workers, gpus_per_worker)
        self.address = address
        self.workers = workers
        self.gpus = gpus_per_worker
        self.patience = patience
        self.deaths = 0
        self._hands: list[_Hand] = []
        self._cards: dict[ModelSpec, ModelCard] = {}
        self._stack = ExitStack()
        self._broken_starts = 0

    def __enter__(self) -> "Pool":
        cores = max(usable_cores(), self.workers or 1) if self.address == LOCAL else None
        self._stack.enter_context(connected(self.address, cores))
        self._stack.callback(self._dismiss)
        try:
            self.staff = self._plan()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_raised: Any) -> None:
        self._stack.close()

    def _plan(self) -> Staff:
        nodes = [node["Resources"] for node in needed().nodes() if node["Alive"]]
        found = staff([(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes], self.workers, self.gpus)
        if self.address == LOCAL and sum(node.get("GPU", 0) for node in nodes) < self.gpus:
            raise ParameterError(f"this machine has no {self.gpus:g} GPUs for a worker; leave gpus-per-worker out, or "
                                 "give the address of a cluster.")
        return found

    def share(self, value: Any) -> Any:
        """Send something to every node once; what is returned stands for it in the arguments of tasks."""
        return needed().put(value)

    def one(self, task: Task) -> Any:
        """The result of one task."""
        return next(iter(self.run([task])))[1]

    def run(self, tasks: Sequence[Task], *, keep_going: bool = False) -> Iterator[tuple[Task, Any]]:
        """Run tasks, and give each with its result as they finish.

        A task whose worker dies is given to another. One that cannot be divided and has cost three is given up, one
        that can is run in halves before.

        Args:
            tasks: Of one model or several; a worker prefers tasks of the model it holds.
            keep_going: Whether a task that is given up has `Lost` as its result, and the others go on.

        Raises:
            LenssteerError: the error that a task raised, by its own class; when a task is given up; or when no worker
                could be started.
            MismatchError: when a worker has other versions, or a model has other weights on another worker.
        """
        waiting = list(tasks)
        try:
            while waiting or any(hand.task for hand in self._hands):
                self._hire(len(waiting))
                self._assign(waiting)
                finished = [pair for hand in self._ready() for pair in self._take(hand, waiting, keep_going)]
                self._hire(len(waiting))
                self._assign(waiting)
                yield from finished
        finally:
            self._dismiss(busy=True)

    def _hire(self, waiting: int) -> None:
        """Start workers, as many as there is work for."""
        busy = sum(hand.task is not None for hand in self._hands)
        ray, wanted = needed(), min(self.staff.workers, busy + waiting)
        while len(self._hands) < wanted:
            actor = ray.remote(Worker).options(num_cpus=self.staff.cpus, num_gpus=self.staff.gpus, max_restarts=0
                                               ).remote(self.staff.cpus)
            self._hands.append(_Hand(actor, actor.start.remote()))

    def _dismiss(self, *, busy: bool = False) -> None:
        for hand in list(self._hands):
            if not busy or hand.task is not None:
                self._drop(hand)

    def _drop(self, hand: _Hand) -> None:
        self._hands.remove(hand)
        needed().kill(hand.actor)

    def _assign(self, waiting: list[Task]) -> None:
        """Give idle workers the first tasks of the models they hold, then those that are left of others."""
        idle = [hand for hand in self._hands if hand.started and hand.task is None]
        for own in (True, False):
            for hand in [hand for hand in idle if hand.task is None]:
                models = [task.model for task in waiting]
                wanted = hand.model if own else self._most_behind(models)
                if wanted in models:
                    hand.task = waiting.pop(models.index(wanted))
                    hand.model = hand.task.model
                    hand.waits_for = hand.actor.run.remote(wanted, hand.task.model.place, hand.task.work,
                                                           *hand.task.args)

    def _most_behind(self, models: Sequence[ModelSpec]) -> ModelSpec | None:
        """The model that has most tasks a worker that holds it."""
        held = [hand.model for hand in self._hands]
        return max(dict.fromkeys(models), key=lambda one: models.count(one) / (1 + held.count(one)), default=None)

    def _ready(self) -> list[_Hand]:
        """The workers that have answered; waits for one."""
        ray, since = needed(), monotonic()
        waits = {hand.waits_for: hand for hand in self._hands if hand.waits_for is not None}
        while True:
            ready, _ = ray.wait(list(waits), timeout=1.0)
            if ready:
                return [waits[ref] for ref in ready]
            if not any(hand.started for hand in self._hands) and monotonic() - since > self.patience:
                has = {name: count for name, count in ray.cluster_resources().items() if name in ("CPU", "GPU")}
                raise LenssteerError(f"no worker could be started in {self.patience:g} s: each takes {self.staff.cpus} "
                                     f"cores and {self.staff.gpus:g} GPUs, the cluster has {has}, and others may use "
                                     "them.")

    def _take(self, hand: _Hand, waiting: list[Task], keep_going: bool) -> Iterator[tuple[Task, Any]]:
        """What a worker answered: the result of its task, if it is one."""
        task = hand.task
        try:
            answer = needed().get(hand.waits_for)
        except needed().exceptions.RayTaskError as error:
            raise LenssteerError(f"a worker could not be given its task: {error}") from error
        except needed().exceptions.RayError as error:
            self._drop(hand)
            yield from self._bereaved(task, str(error), waiting, keep_going)
            return
        hand.waits_for, hand.task = None, None
        if isinstance(answer, Started):
            require_same_versions(answer)
            hand.started, self._broken_starts = True, 0
        elif isinstance(answer, Failed):
            raise error_of(answer)
        elif task is not None and isinstance(answer, Done):
            require_same_weights(self._cards.setdefault(task.model, answer.card), answer.card)
            for category, text in answer.warned:
                warnings.warn(text, category, stacklevel=4)
            yield task, answer.value

    def _bereaved(self, task: Task | None, reason: str, waiting: list[Task],
                  keep_going: bool) -> Iterator[tuple[Task, Any]]:
        """Give the task of a dead worker to others; a worker that died while it started had none."""
        if task is None:
            self._broken_starts += 1
            if self._broken_starts >= MOST_DEATHS:
                raise LenssteerError(f"workers die while they start: {reason}")
            return
        self.deaths += 1
        task = replace(task, deaths=task.deaths + 1)
        if task.halves is not None and task.deaths > 1:
            waiting[:0] = [replace(half, deaths=task.deaths) for half in task.halves()]
        elif task.deaths < MOST_DEATHS:
            waiting.insert(0, task)
        else:
            lost = Lost(f"its worker died, {task.deaths} times in all; the last one: {in_one_line(reason)}")
            if not keep_going:
                raise LenssteerError(f"a task was given up: {lost.message}")
            yield task, lost
