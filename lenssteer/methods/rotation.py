"""Rotations: by an angle on discriminative sites (Selective), to an angle (Angular), and in span(h, d)."""

from torch import Tensor

from lenssteer import edits
from lenssteer.directions import find_plane
from lenssteer.edits import LowRankEdit
from lenssteer.methods.method import Amount, Fitted, Method, Parameter
from lenssteer.site import Site

TO = Parameter("degrees", "rotates TO this angle from b1", amount=True)


def _basis(fitted: Fitted) -> Tensor:
    """The calibration's plane; where it has none, the error says why."""
    plane = fitted.fitted_plane or find_plane("pca", fitted.candidates, fitted.evidence, fitted.direction)
    return plane.basis


def _selective(fitted: Fitted, _site: Site, degrees: Amount) -> LowRankEdit:
    return edits.rotate_by(_basis(fitted), degrees=degrees)


def _standard(fitted: Fitted, _site: Site, degrees: Amount) -> LowRankEdit:
    return edits.rotate_to(_basis(fitted), degrees=degrees)


def _adaptive(fitted: Fitted, _site: Site, degrees: Amount) -> LowRankEdit:
    return edits.rotate_to(_basis(fitted), degrees=degrees, adaptive=True)


def _spherical(fitted: Fitted, _site: Site, degrees: Amount) -> LowRankEdit:
    return edits.set_angle(fitted.direction.vector, degrees=degrees)


SELECTIVE = Method(
    "selective", "Dang & Ngo 2026, arXiv:2601.19375, Eq. 6 and 10",
    (Parameter("degrees", "rotates BY this angle, from b1 towards b2", amount=True, neutral=0.0),),
    "discriminative", _selective)
STANDARD_ANGULAR = Method("standard-angular", "Vu & Nguyen 2025, arXiv:2510.26243, Eq. 2", (TO,), "all", _standard)
ADAPTIVE_ANGULAR = Method("adaptive-angular", "Vu & Nguyen 2025, arXiv:2510.26243, Eq. 3", (TO,), "all", _adaptive)
SPHERICAL = Method(
    "spherical", "rotation in span(h, d): Vu & Nguyen 2025, arXiv:2510.26243, appendix A",
    (Parameter("degrees", "turns every activation TO this angle from the direction", amount=True),),
    "source", _spherical)
