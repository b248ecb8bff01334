"""Arms of a comparison: every method in every form that may serve, each with one strength to calibrate.

A method whose amount has a neutral value is varied by that amount; any other by scaling the change it makes, of which 1
is the method as published.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lenssteer.errors import DirectionError
from lenssteer.recipe import Calibration
from lenssteer.site import Site
from lenssteer.steering import Steerer

ANGLES = tuple(range(0, 360, 45))
OPENINGS = (120, 150)
"""Angles from the direction for `spherical`: both lie on the side of the negative class."""
SITE_LIMIT = 3


@dataclass(frozen=True)
class Arm:
    """One form of a method.

    Args:
        method: Name in the catalogue, or "random".
        label: What distinguishes it from the method's other arms.
        steerer_for: The steerer at a strength.
        high: Strongest that is tried.
    """

    method: str
    label: str
    steerer_for: Callable[[float], Steerer]
    high: float


def arms(method: str, resid: Calibration, norm_out: Calibration) -> list[Arm]:
    """The arms of a method that steer away from the positive class.

    Args:
        method: Name in the catalogue.
        resid: Calibration on the residual stream, for everything that acts at a site of its own.
        norm_out: Calibration at the norm outputs, for rotations.
    """
    if method == "selective":
        return [_selective(norm_out, sense) for sense in (1, -1) if norm_out.discriminative]
    if method in ("standard-angular", "adaptive-angular"):
        return [_scaled(method, norm_out.steerer(method, degrees=angle), f"to {angle}°") for angle in ANGLES]
    if method == "spherical":
        return [_scaled(method, resid.steerer(method, degrees=angle, source=site), f"to {angle}° at {site}")
                for site in best_sites(resid) for angle in OPENINGS]
    makers = {"ablation": _ablation, "affine-ablation": _ablation, "sttp": _target, "stmp": _mirror,
              "alphasteer": _alphasteer}
    maker = makers.get(method, _addition)
    found: list[Arm] = []
    for site in best_sites(resid):
        try:
            found.append(maker(method, resid, site))
        except DirectionError:
            continue
    return found


def random_arm(resid: Calibration, site: Site, seed: int) -> Arm:
    """Addition of a random direction at a site: what any direction is compared with."""
    control = resid.random_control(seed)
    return Arm("random", f"at {site}", lambda s: control.steerer("addition", coefficient=-s, source=site), 32.0)


def best_sites(calibration: Calibration, limit: int = SITE_LIMIT) -> Sequence[Site]:
    """The sites whose directions tell the classes apart best, by effect size on the calibration prompts."""
    table = [line for line in calibration.table() if not line["degenerate"]]
    ranked = sorted(table, key=lambda line: -(line["effect_size"] or 0.0))
    return [Site.parse(line["site"]) for line in ranked[:limit]]


def _selective(calibration: Calibration, sense: int) -> Arm:
    return Arm("selective", "clockwise" if sense < 0 else "counter-clockwise",
               lambda s: calibration.steerer("selective", degrees=sense * s), 180.0)


def _scaled(method: str, steerer: Steerer, label: str) -> Arm:
    return Arm(method, label, lambda s: steerer.scaled(s), 1.0)


def _ablation(method: str, calibration: Calibration, site: Site) -> Arm:
    steerer = calibration.steerer(method, source=site)
    return Arm(method, f"direction of {site}", lambda s: steerer.scaled(s), 2.0)


def _target(method: str, calibration: Calibration, site: Site) -> Arm:
    steerer = calibration.steerer(method, source=site, toward="negative")
    return Arm(method, f"at {site}", lambda s: steerer.scaled(s), 8.0)


def _mirror(method: str, calibration: Calibration, site: Site) -> Arm:
    calibration.steerer(method, source=site, toward="negative")
    return Arm(method, f"at {site}", lambda s: calibration.steerer(
        method, source=site, strength=s, toward="negative"), 8.0)


def _alphasteer(method: str, calibration: Calibration, site: Site) -> Arm:
    calibration.steerer(method, sites=[site], strength=-1.0)
    return Arm(method, f"at {site}", lambda s: calibration.steerer(method, sites=[site], strength=-s), 16.0)


def _addition(method: str, calibration: Calibration, site: Site) -> Arm:
    calibration.steerer(method, source=site, coefficient=-1.0)
    return Arm(method, f"at {site}", lambda s: calibration.steerer(method, source=site, coefficient=-s), 8.0)
