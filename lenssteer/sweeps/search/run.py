"""A search: first tokens at many settings, answers for those that survive, all prompts for the few that lead.

    stage 0   first token at every second setting, one prompt; what has hardly moved is dropped
    stage 1   answers to a sixth of the prompts at a dozen evenly spaced settings
    stage 2   answers to a third of the prompts at up to five settings that lead by the estimate
    finalists answers to all prompts, one setting after another, while tokens are left

Between stages `estimate` carries results over to near settings, so that a setting without answers may lead. Every
answer is drawn at its full length, once.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenssteer.errors import ParameterError
from lenssteer.evals.judges import Judge
from lenssteer.evals.scoring import measure_of, scorer_of
from lenssteer.models import Decoding, LensModel
from lenssteer.prompts import Prompt, hashes
from lenssteer.sweeps.search.goal import CONSTRAINTS, KL, Constraint, Goal, score_names
from lenssteer.sweeps.search.measure import Measurer, SteererFor
from lenssteer.sweeps.search.record import JOURNAL, RESULT, open_record, write_json
from lenssteer.sweeps.search.result import SearchResult
from lenssteer.sweeps.search.space import Space
from lenssteer.sweeps.search.stages import Search
from lenssteer.sweeps.search.trials import Trials


@dataclass(frozen=True)
class Plan:
    """How much a search may look at.

    Args:
        share: Of the tokens that every setting on every prompt would cost; finalists are measured while tokens are
            left, one at least.
        trials: Settings drawn from a range: the first twelve evenly spaced, then twelve at a time by optuna's sampler.
        seed: Of the order in which prompts are used, and of the sampler.

    Raises:
        ParameterError: when the share is not in (0, 1], or there are fewer than two trials.
    """

    share: float | int = 0.19
    trials: int = 36
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.trials < 2:
            raise ParameterError(f"expected a share above 0 and at most 1, and two trials or more; got {self.share} "
                                 f"and {self.trials}.")


def run_search(
    model: LensModel,
    steerer_for: SteererFor,
    space: Space,
    prompts: Sequence[Prompt],
    folder: Path | str,
    *,
    goal: Goal | None = None,
    constraints: Sequence[Constraint] | None = None,
    wanted: Sequence[Prompt] = (),
    about: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
    decoding: Decoding | None = None,
    judge: Judge | None = None,
    template: str | None = None,
    system: str | None = None,
    batch_size: int | None = None,
    tell: Callable[[str], object] = lambda stage: None,
) -> SearchResult:
    """Find the best setting of a method, in a folder that a killed search goes on from.

    Args:
        model: Unsteered.
        steerer_for: From one amount, or one a row, to a steerer, such as
            `lambda rows: calibration.steerer("selective", degrees=rows)`.
        space: The settings.
        prompts: A setting is chosen on them, so it may not be tested on them.
        folder: Of the search; see `record`.
        goal: What is raised or lowered; `answers` by default.
        constraints: A setting that breaks one never wins against one that keeps all; `CONSTRAINTS` by default.
        wanted: Prompts the unsteered model already treats as wanted, such as harmless ones where refusals are to go:
            first tokens are compared with theirs, and the constraint kl is measured on them.
        about: What else identifies the search, such as the hash of a calibration.
        plan: How much it may look at.
        decoding: How answers are drawn; greedy only.
        judge: For refused, harmful and answers; by phrase without one.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        tell: Called with what comes next, in a few words.

    Raises:
        ParameterError: when there are fewer than two prompts, answers would be sampled, or kl lacks its prompts.
        FileError: when another process searches in the folder.
        MismatchError: when the folder holds a search of something else.
    """
    goal, plan, decoding = goal or Goal("answers"), plan or Plan(), decoding or Decoding(64)
    constraints = [Constraint.parse(text) for text in CONSTRAINTS] if constraints is None else list(constraints)
    _check(prompts, decoding, constraints, wanted)
    names = score_names(goal, constraints)
    score = scorer_of(names, model=model, judge=judge, template=template, system=system)
    order = random.Random(plan.seed).sample(list(prompts), len(prompts))
    header = {"kind": "search", "format": 1, "about": dict(about or {}), "space": vars(space), "objective": str(goal),
              "constraints": [str(one) for one in constraints], "plan": vars(plan), "decoding": vars(decoding),
              "prompts": hashes(prompts), "n": len(prompts), "wanted": hashes(wanted), "template": template or
              model.template, "system": system, "measure": measure_of(names, judge),
              "model": model.card.fingerprint or model.card.name}
    with open_record(folder, header) as record:
        measurer = Measurer(model, steerer_for, order, list(wanted), decoding, score, record, template, system,
                            batch_size)
        trials = Trials(Path(folder) / JOURNAL, space, goal, plan.seed)
        result = Search(space, goal, constraints, measurer, trials, plan.share, plan.trials, plan.seed, tell).run()
        write_json(Path(folder) / RESULT, result.as_dict())
    return result


def _check(prompts: Sequence[Prompt], decoding: Decoding, constraints: Sequence[Constraint],
           wanted: Sequence[Prompt]) -> None:
    if len(prompts) < 2 or len(hashes(prompts)) < len(prompts):
        raise ParameterError(f"a search needs two or more different prompts; got {len(prompts)}, "
                             f"{len(hashes(prompts))} different.")
    if decoding.temperature > 0:
        raise ParameterError(f"a search decodes greedily; got temperature={decoding.temperature:g}.")
    if not wanted and any(one.name == KL for one in constraints):
        raise ParameterError("the constraint kl is measured on prompts that must stay as they are: give them as "
                             "wanted= (--negative FILE).")
