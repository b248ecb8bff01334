"""All methods at equal side effect: strengths brought to one KL on harmless prompts, results on a test split."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from lenssteer.errors import LenssteerError, ParameterError, PromptError
from lenssteer.evals import Diagnostics, Reference, answer_nll, calibrate_strength, diagnose, paired_difference
from lenssteer.evals.statistics import Movement, mcnemar, movement
from lenssteer.methods import CATALOGUE, find_method
from lenssteer.models import LensModel, generate
from lenssteer.progress import track
from lenssteer.prompts import refuse_seen
from lenssteer.recipe import calibrate
from lenssteer.steering import Receipt, Steerer
from lenssteer.studies.arms import Arm, arms, best_sites, random_arm
from lenssteer.studies.tasks import Task

TOLERANCE, STRENGTHS, APART = 0.05, 4, 0.7
BASELINES = ("unsteered", "prompt-only", "random")


@dataclass(frozen=True)
class Chosen:
    """The arm of a method that did best on the selection split, at its calibrated strength."""

    arm: Arm
    strength: float
    kl: float
    reached: bool
    success: float
    steerer: Steerer


def comparable() -> list[str]:
    """Methods that need nothing beyond a calibration; those of SAE latents need an SAE."""
    return [method.name for method in CATALOGUE if method.sites != "latent"]


def compare(model: LensModel, task: Task, *, target_kl: float = 0.1, methods: Sequence[str] | None = None,
            seed: int = 0, progress: bool = False) -> dict[str, Any]:
    """Compare methods at one side effect: mean KL a token on harmless prompts, at most the target.

    Every arm of a method is brought to the target on the selection prompts. The best arm by success on the selection
    split, at the best strength within the target, is reported on the test split.

    Args:
        model: Unsteered.
        task: Prompts of three splits, and what success is.
        target_kl: Side effect allowed, in nats a token.
        methods: Names of the catalogue; all that need no SAE by default.
        seed: Of the random direction and of the bootstrap.
        progress: Whether to show progress bars.

    Returns:
        `rows`, one a method and baseline, with paired differences to every baseline, McNemar's test against the
        unsteered model, and `moved`: how many refused prompts moved the wrong way, see `_moved`.

    Raises:
        ParameterError: when a method is unknown or the target is not positive.
        PromptError: when a test prompt was used to fit or choose, or a prompt leaves no room for its answer.
    """
    started = perf_counter()
    names = list(methods or comparable())
    for name in names:
        find_method(name)
    if not target_kl > 0:
        raise ParameterError(f"target_kl must be a positive number of nats, got {target_kl}.")
    refuse_seen(task.seen, [*task.test.positive, *task.test.negative], "the settings compared here")
    _require_room(model, task)
    with model.metered() as cost:
        chosen, tried = _choose(model, task, names, target_kl, seed, progress)
        rows = _test(model, task, chosen, seed, progress)
    return {"rows": rows, "target_kl": target_kl, "measure": task.measure, "seed": seed, "model": asdict(model.card),
            "arms": tried, "left_out": [name for name in names if name not in chosen], "cost": cost.as_dict(),
            "seconds": perf_counter() - started}


def _choose(model: LensModel, task: Task, names: Sequence[str], target_kl: float, seed: int,
            progress: bool) -> tuple[dict[str, Chosen], dict[str, int]]:
    """The best arm of every method on the selection split, and how many arms were tried."""
    resid = calibrate(model, task.calibration, sites="resid_post", samples=True)
    norm_out = calibrate(model, task.calibration, sites="norm_out")
    reference = Reference.of(model, task.selection.negative)
    tried = {name: arms(name, resid, norm_out) for name in names}
    tried["random"] = [random_arm(resid, best_sites(resid)[0], seed)]
    chosen: dict[str, Chosen] = {}
    for name in track(list(tried), "choosing settings" if progress else ""):
        best = best_of([calibrated(model, arm, task, reference, target_kl) for arm in tried[name]])
        if best is not None:
            chosen[name] = best
    return chosen, {name: len(found) for name, found in tried.items()}


def _require_room(model: LensModel, task: Task) -> None:
    """Refuse prompts that would stop the study after its long part."""
    asked = [*task.selection.positive, *task.selection.negative, *task.test.positive, *task.test.negative]
    encoded = model.encode([f"{task.prompt_only} {prompt}" for prompt in asked])
    room = model.card.n_ctx - task.decoding.max_new_tokens
    long = [prompt for prompt, one in zip(asked, encoded, strict=True) if len(one.ids) > room]
    if long:
        raise PromptError(f"{len(long)} of {len(asked)} prompts leave no room for {task.decoding.max_new_tokens} new "
                          f"tokens in a context of {model.card.n_ctx}, the longest has {max(map(len, long))} "
                          "characters; leave them out or lower max_new_tokens.")


def calibrated(model: LensModel, arm: Arm, task: Task, reference: Reference, target_kl: float) -> Chosen | None:
    """The strength of an arm with the most success on the selection split, within the KL allowed.

    Strengths are the one that reaches the target and the doublings that led to it, since a stronger edit is not always
    a better one. None where every strength breaks the model or passes the target.
    """
    try:
        found = calibrate_strength(arm.steerer_for, reference, target_kl=target_kl, high=arm.high)
    except LenssteerError:
        return None
    within = {strength: kl for strength, kl in found.trace if strength > 0 and kl <= target_kl * (1 + TOLERANCE)}
    tried = [_tried(model, arm, task, strength, kl, reached=found.reached and strength == found.strength)
             for strength, kl in _spread(within)]
    return best_of(tried)


def _spread(within: Mapping[float, float]) -> list[tuple[float, float]]:
    """The largest strength and those well below the one before, largest first; few enough to run."""
    kept: list[tuple[float, float]] = []
    for strength in sorted(within, reverse=True):
        if not kept or (strength <= APART * kept[-1][0] and len(kept) < STRENGTHS):
            kept.append((strength, within[strength]))
    return kept


def _tried(model: LensModel, arm: Arm, task: Task, strength: float, kl: float, *, reached: bool) -> Chosen | None:
    steerer = arm.steerer_for(strength)
    prompts = task.selection.positive
    try:
        with steerer.on(model):
            answers = generate(model, prompts, task.decoding)
    except LenssteerError:
        return None
    success = sum(task.success(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)) / len(prompts)
    return Chosen(arm, strength, kl, reached, success, steerer)


def best_of(tried: Sequence[Chosen | None]) -> Chosen | None:
    """The arm with the most success; among equals the one with the smaller side effect."""
    return max((one for one in tried if one is not None), key=lambda one: (one.success, -one.kl), default=None)


@dataclass(frozen=True)
class _Tested:
    """Success on refused prompts with the answers to them, and what is kept on harmless ones, prompt by prompt."""

    success: list[float]
    kept: list[float]
    answers: list[str]


def _scores(model: LensModel, task: Task, split: str, prefix: str = "") -> _Tested:
    prompts = getattr(task, split)
    asked = [*prompts.positive, *prompts.negative]
    answers = generate(model, [f"{prefix} {prompt}" if prefix else prompt for prompt in asked], task.decoding)
    n = len(prompts.positive)
    scored = [(task.success if i < n else task.kept)(prompt, answer)
              for i, (prompt, answer) in enumerate(zip(asked, answers, strict=True))]
    return _Tested(scored[:n], scored[n:], answers[:n])


def _test(model: LensModel, task: Task, chosen: Mapping[str, Chosen], seed: int,
          progress: bool) -> list[dict[str, Any]]:
    reference = Reference.of(model, task.test.negative)
    plain = _scores(model, task, "test")
    scores = {"unsteered": plain, "prompt-only": _scores(model, task, "test", task.prompt_only)}
    before = _own_answers(model, task, plain)
    more: dict[str, dict[str, Any]] = {}
    for name in track(list(chosen), "testing" if progress else ""):
        with chosen[name].steerer.on(model) as receipt:
            scores[name] = _scores(model, task, "test")
            after = _own_answers(model, task, plain)
        side = diagnose(chosen[name].steerer, reference)
        more[name] = {**_setting(chosen[name], receipt, side), "moved": asdict(_moved(before, after))}
    return [_row(name, tested, scores, seed) | more.get(name, {}) for name, tested in scores.items()]


def _own_answers(model: LensModel, task: Task, plain: _Tested) -> list[float | None]:
    """NLL of the unsteered answers that fail, as the model now finds them; None for those that succeed or are empty."""
    failed = [i for i, score in enumerate(plain.success) if score < 1 and plain.answers[i].strip()]
    found: list[float | None] = [None] * len(plain.answers)
    prompts = task.test.positive
    if failed:
        nll = answer_nll(model, [prompts[i] for i in failed], [plain.answers[i] for i in failed]).tolist()
        for i, value in zip(failed, nll, strict=True):
            found[i] = value
    return found


def _moved(before: Sequence[float | None], after: Sequence[float | None]) -> Movement:
    """Which way prompts moved: right where the model finds its own unsteered refusal less likely than before."""
    return movement(before, after, up=True)


def _row(name: str, tested: _Tested, scores: Mapping[str, _Tested], seed: int) -> dict[str, Any]:
    success, plain = tested.success, scores["unsteered"].success
    row: dict[str, Any] = {"method": name, "success": sum(success) / len(success),
                           "kept": sum(tested.kept) / len(tested.kept), "n": len(success)}
    if name != "unsteered":
        row["mcnemar"] = mcnemar([score == 1 for score in success], [score == 1 for score in plain]).p
    row["against"] = {other: asdict(paired_difference(success, scores[other].success, seed=seed))
                      for other in BASELINES if other != name and other in scores}
    return row


def _setting(chosen: Chosen, receipt: Receipt, side: Diagnostics) -> dict[str, Any]:
    """How a method was set, what it did on the test split, and what on its harmless prompts."""
    return {"setting": chosen.arm.label, "strength": chosen.strength, "reached": chosen.reached,
            "kl_selection": chosen.kl, "kl_test": side.divergence.mean, "top1_test": side.divergence.agreement,
            "selection_success": chosen.success, "receipt": receipt.as_dict(), "benign": side.as_dict()}
