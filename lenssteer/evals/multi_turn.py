"""Conversations held steered and unsteered, and what happens to the answers turn by turn."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from lenssteer.directions import Direction
from lenssteer.errors import PromptError
from lenssteer.evals.conversation import Dialogue, hold
from lenssteer.evals.drift import drift, drift_difference
from lenssteer.evals.judges import Judge
from lenssteer.evals.turns import TURN_SCORES, turn_scores
from lenssteer.models import Decoding, LensModel
from lenssteer.prompts import refuse_seen
from lenssteer.steering import Receipt, Steerer


def multi_turn(model: LensModel, conversations: Sequence[Sequence[str]], steerer: Steerer | None = None,
               decoding: Decoding | None = None, *, direction: Direction | None = None, judge: Judge | None = None,
               system: str | None = None, template: str | None = None, batch_size: int | None = None, seed: int = 0,
               keep_texts: bool = False, progress: bool = False) -> dict[str, Any]:
    """Hold conversations unsteered, and steered where a steerer is given, and score every answer.

    Args:
        model: Unsteered.
        conversations: What the user says, turn by turn.
        steerer: Stays on for whole conversations.
        decoding: How answers are drawn.
        direction: Measures the projection of answers on it.
        judge: Of refusals; by phrase without one.
        system: System prompt of all.
        template: Prompt format.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        seed: Of the bootstrap.
        keep_texts: Whether what was said is part of the result.
        progress: Whether to show progress bars.

    Returns:
        `arms`: by "unsteered" and "steered" how many conversations reached each turn, why others ended, and every
        score's drift; `difference`: drift of steered - unsteered; cost and, where asked for, texts.

    Raises:
        PromptError: when a first turn was used to fit the steerer, or no conversation fits the context.
    """
    seen = steerer.provenance.get("calibration", {}).get("seen", []) if steerer is not None else []
    refuse_seen(seen, [turn for said in conversations for turn in said], "the steerer")
    form: dict[str, Any] = {"system": system, "template": template}
    held: dict[str, list[Dialogue]] = {}
    receipt: Receipt | None = None
    with model.metered() as cost:
        for name, one in {"unsteered": None, **({"steered": steerer} if steerer is not None else {})}.items():
            with one.on(model) if one is not None else nullcontext() as receipt:
                held[name] = hold(model, conversations, decoding, **form, batch_size=batch_size,
                                  progress=name if progress else "")
                _require_answers(held[name])
        scores = {name: turn_scores(model, talks, direction=direction, judge=judge, **form)
                  for name, talks in held.items()}
    arms = {name: _arm(held[name], scores[name], seed) for name in held}
    gap = {score: asdict(drift_difference(scores["steered"][score], scores["unsteered"][score], seed=seed))
           for score in scores["unsteered"]} if steerer is not None else {}
    found = {"conversations": len(conversations), "measures": {name: TURN_SCORES[name] for name in scores["unsteered"]},
             "arms": arms, "difference": gap, "receipt": receipt.as_dict() if receipt is not None else None,
             "seed": seed, "cost": cost.as_dict()}
    return found | ({"texts": _texts(held)} if keep_texts else {})


def _require_answers(held: Sequence[Dialogue]) -> None:
    if not any(one.answers for one in held):
        raise PromptError(f"no conversation fits the context: {held[0].ended}; shorten them or lower max_new_tokens.")


def _arm(held: Sequence[Dialogue], scores: dict[str, list[list[float | None]]], seed: int) -> dict[str, Any]:
    length = max(len(one.said) for one in held)
    return {"reached": [sum(len(one.answers) > turn for one in held) for turn in range(length)],
            "ended": dict(Counter(one.ended for one in held if one.ended)),
            "scores": {name: asdict(drift(rows, seed=seed)) for name, rows in scores.items()}}


def _texts(held: dict[str, list[Dialogue]]) -> list[dict[str, Any]]:
    first = next(iter(held.values()))
    return [{"user": list(one.said), "answers": {name: list(talks[i].answers) for name, talks in held.items()}}
            for i, one in enumerate(first)]
