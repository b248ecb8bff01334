"""Steering to a target (StTP) and to a mirror image (StMP) beyond the boundary of a linear probe."""

from typing import Any

import torch

from lenssteer import edits
from lenssteer.directions import Boundary, logistic_boundary
from lenssteer.edits import LowRankEdit
from lenssteer.methods.method import Amount, Fitted, Method, Parameter
from lenssteer.site import Site


def boundary(fitted: Fitted, site: Site, toward: str = "positive") -> Boundary:
    """The logistic boundary of the calibration's samples at a site; the aligned class is the one steered towards.

    In a random control its direction is random, and the boundary lies midway between the class means on it.
    """
    def fit() -> Boundary:
        evidence = fitted.evidence
        positive, negative = evidence.need_samples("logistic")
        k = fitted.candidates.index(site)
        direction = fitted.candidates.direction(site).vector if fitted.control is not None else None
        return logistic_boundary(positive[k], negative[k], site, direction=direction)

    found = fitted.once(("boundary", site), fit)
    return found if toward == "positive" else found.flipped()


TOWARD = Parameter("toward", "class that activations are moved to", default="positive",
                   choices=("positive", "negative"))
RULE = Parameter("threshold", "tokens below it are edited: boundary, percentile(5) or mean-2sd of the aligned class",
                 default="boundary")


def _target(fitted: Fitted, site: Site, alpha: Amount, toward: str, threshold: str, **_given: Any) -> LowRankEdit:
    found = boundary(fitted, site, toward)
    aim = found.positive + torch.as_tensor(alpha, dtype=torch.float64) * found.spread
    return edits.steer_to_target(found.vector, boundary=found.boundary, target=aim,
                                 threshold=found.threshold(threshold))


def _mirror(fitted: Fitted, site: Site, strength: Amount, toward: str, threshold: str) -> LowRankEdit:
    found = boundary(fitted, site, toward)
    return edits.steer_to_mirror(found.vector, boundary=found.boundary, strength=strength,
                                 threshold=found.threshold(threshold))


STTP = Method("sttp", "arXiv:2604.08169, Eq. 4",
              (Parameter("alpha", "target, in spreads of the aligned class beyond its mean", default=0.0, amount=True),
               TOWARD, RULE), "source", _target, needs="samples")
STMP = Method("stmp", "arXiv:2604.08169, Eq. 5",
              (Parameter("strength", "1 mirrors at the boundary, 0.5 lands on it", default=1.0, amount=True,
                         neutral=0.0), TOWARD, RULE), "source", _mirror, needs="samples")
