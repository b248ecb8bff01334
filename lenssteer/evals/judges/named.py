"""Judges by name."""

from collections.abc import Callable

from lenssteer.errors import ParameterError
from lenssteer.evals.judges.demo import DemoJudge
from lenssteer.evals.judges.judge import Judge
from lenssteer.evals.judges.phrases import PhraseJudge

JUDGES: dict[str, Callable[[], Judge]] = {"phrases": PhraseJudge, "demo": DemoJudge}


def judge_named(name: str) -> Judge:
    """A judge with its default settings.

    Raises:
        ParameterError: when there is none of that name.
    """
    if name not in JUDGES:
        raise ParameterError(f"no judge {name!r}; expected one of {', '.join(JUDGES)}.")
    return JUDGES[name]()
