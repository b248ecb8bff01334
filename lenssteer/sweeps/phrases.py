"""What a sweep is scored by where no other judge is given: refusal phrases and repetition."""

from collections.abc import Sequence

from lenssteer.evals.judges import PhraseJudge
from lenssteer.evals.metrics import empty, mostly_repeats
from lenssteer.prompts import Prompt
from lenssteer.sweeps.row import Scores

PHRASE_MEASURE = "refused: by phrase; repeats: half or more of the words are repeats; empty: no words"


def phrase_scores(_prompts: Sequence[Prompt], answers: Sequence[str]) -> Scores:
    """Whether each answer refuses, mostly repeats itself, and is empty; 0 or 1.

    An answer without words is unscored but for `empty`.

    >>> phrase_scores(["a", "b"], ["Sorry, no.", ""])
    {'refused': [1.0, None], 'repeats': [0.0, None], 'empty': [0.0, 1.0]}
    """
    judge = PhraseJudge()
    refused = [judge.verdict(answer).refused for answer in answers]
    return {"refused": [None if verdict is None else float(verdict) for verdict in refused],
            "repeats": [None if empty(answer) else float(mostly_repeats(answer)) for answer in answers],
            "empty": [float(empty(answer)) for answer in answers]}
