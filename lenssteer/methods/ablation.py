"""Ablation of the global direction, to zero at every site or to the negative class's own component."""

from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.methods.method import Fitted, Method
from lenssteer.site import Site


def _ablate(fitted: Fitted, _site: Site) -> LowRankEdit:
    return edits.ablate(fitted.direction.vector)


def _affine(fitted: Fitted, site: Site) -> LowRankEdit:
    candidates = fitted.candidates
    return edits.ablate(fitted.direction.vector, center=candidates.negative[candidates.index(site)])


ABLATION = Method("ablation", "Arditi et al. 2024, arXiv:2406.11717, section 2.4", (), "all", _ablate)
AFFINE_ABLATION = Method("affine-ablation", "Marshall et al. 2024, arXiv:2411.09003 (ACE, to the mean of the negative "
                         "class)", (), "all", _affine)
