"""Additions: of the class difference (Activation Addition, CAA), and along the probe direction (SwFC)."""

from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.methods.method import Amount, Fitted, Method, Parameter
from lenssteer.site import Site

COEFFICIENT = Parameter("coefficient", "multiple of the class difference; negative steers away from the positive class",
                        default=1.0, amount=True, neutral=0.0)
NORM = Parameter("norm", "what becomes of an activation's norm", default="none", choices=("none", "preserve", "cap"))


def _add(fitted: Fitted, site: Site, coefficient: Amount, norm: str = "none") -> LowRankEdit:
    return edits.add(fitted.candidates.direction(site).raw, coefficient, norm=norm)


ADDITION = Method("addition", "Turner et al. 2023, arXiv:2308.10248", (COEFFICIENT, NORM), "source", _add)
CAA = Method("caa", "Rimsky et al. 2023, arXiv:2312.06681", (COEFFICIENT,), "source", _add, where="after_instruction")


def _swfc(fitted: Fitted, site: Site, coefficient: Amount) -> LowRankEdit:
    return edits.add(fitted.found("logistic").direction(site).raw, coefficient)


SWFC = Method("swfc", "arXiv:2604.08169, Eq. 3", (COEFFICIENT,), "source", _swfc, needs="samples")

