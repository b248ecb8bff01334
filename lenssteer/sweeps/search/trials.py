"""optuna's side of a search: a study in a journal file, its trials asked for, reported on and told in order."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from lenssteer.errors import FileError, LenssteerError
from lenssteer.sweeps.search.goal import Goal
from lenssteer.sweeps.search.space import Space


@dataclass(frozen=True, eq=False)
class Trial:
    """A setting that is tried."""

    number: int
    amount: float


def _silent(method: Callable[..., Any]) -> Callable[..., Any]:
    """optuna warns of what is meant here: experimental parts, and a fixed value as the only choice.

    It raises whatever a damaged journal causes, at any call, since it reads the journal at any call.

    Raises:
        FileError: in place of that.
    """

    @wraps(method)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        import optuna

        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return method(*args, **kwargs)
        except LenssteerError:
            raise
        except Exception as error:  # see above
            raise FileError(f"the journal of a search cannot be used: {type(error).__name__} {str(error)[:300]}. It "
                            "was damaged or edited, or the disk is full; remove it, and run the same search "
                            "again.") from error
        finally:
            optuna.logging.set_verbosity(before)

    return quiet


class Trials:
    """The study of one search. Every call may be repeated after a kill: what the journal holds is not done again."""

    @_silent
    def __init__(self, journal: Path, space: Space, goal: Goal, seed: int) -> None:
        import optuna

        self.space, self.seed = space, seed
        storage = optuna.storages.JournalStorage(_written_without_waiting(journal))
        self.study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True,
                                         direction="maximize" if goal.up else "minimize")

    @_silent
    def ask(self, number: int, amount: float | None) -> Trial:
        """Trial `number`: at a given amount, or where the tree-structured Parzen estimator wants it.

        The sampler is seeded by trial, so the amount depends on the trials before, not on when a process began.
        """
        import optuna

        self.study.sampler = optuna.samplers.TPESampler(seed=self.seed + number, n_startup_trials=0)
        known = self.study.get_trials(deepcopy=False)
        if number < len(known) and known[number].state.is_finished():
            return Trial(number, known[number].params[self.space.name])
        if number >= len(known) and amount is not None:
            self.study.enqueue_trial({self.space.name: amount})
        waiting = number >= len(known) or known[number].state == optuna.trial.TrialState.WAITING
        trial = self.study.ask() if waiting else self._open(number)
        amount = self._suggest(trial)
        self.study.sampler = optuna.samplers.RandomSampler()
        return Trial(number, amount)

    @_silent
    def report(self, step: int, values: Sequence[tuple[Trial, float]], lower: float | None = None,
               upper: float | None = None) -> list[bool]:
        """Intermediate values of a stage, and for each whether it lies beyond a bound.

        The rule of optuna's threshold pruner, which looks at the last step alone: after a kill the journal may hold
        later ones.
        """
        for trial, value in values:
            known = self.study.get_trials(deepcopy=False)[trial.number]
            if not known.state.is_finished() and step not in known.intermediate_values:
                self._open(trial.number).report(value, step)
        return [(lower is not None and value < lower) or (upper is not None and value > upper) for _, value in values]

    @_silent
    def complete(self, trial: Trial, value: float, excess: float, why: str) -> None:
        """A trial that was measured in full; by how much it breaks the constraints, infinity as 1e9."""
        if not self._finished(trial):
            held = self._open(trial.number)
            held.set_user_attr("why", why)
            held.set_constraint("excess", min(excess, 1e9))
            self.study.tell(trial.number, value)

    @_silent
    def drop(self, trial: Trial, why: str, failed: bool = False) -> None:
        """A trial that was pruned, or whose setting broke the model."""
        import optuna

        if not self._finished(trial):
            self._open(trial.number).set_user_attr("why", why)
            states = optuna.trial.TrialState
            self.study.tell(trial.number, state=states.FAIL if failed else states.PRUNED)

    @_silent
    def rows(self) -> list[dict[str, Any]]:
        """All trials as optuna has them, for JSON."""
        return [{"number": t.number, "amount": t.params.get(self.space.name), "state": t.state.name.lower(),
                 "value": t.value if t.state.name == "COMPLETE" else None,
                 "stages": {str(step): value for step, value in sorted(t.intermediate_values.items())},
                 "why": t.user_attrs.get("why", "")} for t in self.study.get_trials(deepcopy=False)]

    def _finished(self, trial: Trial) -> bool:
        return self.study.get_trials(deepcopy=False)[trial.number].state.is_finished()

    def _open(self, number: int) -> Any:
        import optuna

        known = self.study.get_trials(deepcopy=False)[number]
        return optuna.trial.Trial(self.study, known._trial_id)

    def _suggest(self, trial: Any) -> float:
        return trial.suggest_float(self.space.name, self.space.low, self.space.high)


def _written_without_waiting(journal: Path) -> Any:
    """optuna's journal without a wait for the disk at each of its lines.

    A killed process loses nothing of it. What a machine that loses power may lose is asked for again, and comes from
    what was measured, which does wait for the disk.
    """
    from optuna.storages.journal import JournalFileBackend

    class Journal(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            _append(journal, logs)

    return Journal(str(journal), lock_obj=_Held())  # type: ignore[arg-type]


def _append(journal: Path, logs: Sequence[dict[str, Any]]) -> None:
    with open(journal, "ab") as file:
        file.writelines(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)


class _Held:
    """A lock that never waits: the folder's own lock is held, and one left by a killed process would block."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...
