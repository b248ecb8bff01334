"""Match strengths: how strong a steerer must be to move the model's predictions by a given amount."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from lenssteer.errors import ParameterError
from lenssteer.evals.divergence import Reference
from lenssteer.steering import Steerer

MAX_RUNS = 40
CAP = 64.0


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A strength and what it does.

    Args:
        strength: Found strength.
        kl: Its mean KL divergence, in nats.
        reached: Whether that is the target, within the tolerance.
        trace: Every strength that was run, with its KL divergence, in order.
        steerer: At that strength.
    """

    strength: float
    kl: float
    reached: bool
    trace: tuple[tuple[float, float], ...]
    steerer: Steerer


def calibrate_strength(
    steerer: Steerer | Callable[[float], Steerer],
    reference: Reference,
    *,
    target_kl: float | int,
    low: float | int = 0.0,
    high: float | int | None = None,
    tolerance: float = 0.05,
) -> Calibrated:
    """The smallest strength whose mean KL divergence from the unsteered model is the target.

    Strengths are doubled from 1 (or `high`, if that is lower) until the divergence passes the target, so that the
    first crossing is found where it is not monotone. The crossing is then enclosed by interpolating log KL over log
    strength, with bisection as a safeguard.

    Args:
        steerer: Varied by `scaled`; or a function that makes a steerer from its strength, such as an angle.
        reference: Prompts and unsteered predictions.
        target_kl: In nats; the mean over prompts.
        low: A strength that stays under the target.
        high: Strongest strength allowed; 64 where none is given.
        tolerance: Largest error, as a share of the target.

    Returns:
        The strength. Where even the strongest stays under the target, that one, not `reached`; where the divergence
        jumps over the target, the closest run, not `reached`.

    Raises:
        ParameterError: when a number is out of range, or `low` is already over the target.
    """
    cap = CAP if high is None else float(high)
    if not (target_kl > 0 and 0 <= low < cap < math.inf and 0 < tolerance < 1):
        raise ParameterError(f"expected target_kl > 0, 0 <= low < high and 0 < tolerance < 1; got {target_kl}, {low}, "
                             f"{cap}, {tolerance}.")
    at = steerer.scaled if isinstance(steerer, Steerer) else steerer
    trace: list[tuple[float, float]] = []

    def run(strength: float) -> tuple[float, float]:
        trace.append((strength, reference.divergence(at(strength)).mean))
        return trace[-1]

    under = (0.0, 0.0) if low == 0 and isinstance(steerer, Steerer) else run(float(low))
    if under[1] > target_kl * (1 + tolerance):
        raise ParameterError(f"low={low} has a KL divergence of {under[1]:.3g}, over the target {target_kl}; lower it.")
    over = run(min(max(1.0, 2 * under[0]), cap))
    enough = target_kl * (1 - tolerance)
    while over[1] < enough and over[0] < cap:
        under, over = over, run(min(2 * over[0], cap))
    if over[1] >= enough:
        _enclose(run, under, over, target_kl, tolerance, trace)
    best = min(trace, key=lambda one: (abs(one[1] - target_kl), one[0])) if over[1] >= enough else over
    reached = abs(best[1] - target_kl) <= tolerance * target_kl
    return Calibrated(best[0], best[1], reached, tuple(trace), at(best[0]))


def _enclose(run: Callable[[float], tuple[float, float]], under: tuple[float, float], over: tuple[float, float],
             target: float, tolerance: float, trace: list[tuple[float, float]]) -> None:
    """Narrow a bracket until one of its runs is close enough, or there is nothing between its ends."""
    while (len(trace) < MAX_RUNS and min(abs(under[1] - target), abs(over[1] - target)) > tolerance * target
           and over[0] - under[0] > 1e-4 * over[0]):
        middle = run(_between(under, over, target, bisect=len(trace) % 3 == 0))
        under, over = (under, middle) if middle[1] >= target else (middle, over)


def _between(under: tuple[float, float], over: tuple[float, float], target: float, *, bisect: bool) -> float:
    """A strength inside the bracket; KL grows about as the square of a small strength."""
    (a, kl_a), (b, kl_b) = under, over
    if bisect:
        return math.sqrt(a * b) if a > 0 else (a + b) / 2
    if a > 0 and kl_a > 0:
        guess = a * (b / a) ** (math.log(target / kl_a) / math.log(kl_b / kl_a))
    else:
        guess = a + (b - a) * math.sqrt((target - kl_a) / (kl_b - kl_a))
    return min(max(guess, a + 0.02 * (b - a)), b - 0.02 * (b - a))
