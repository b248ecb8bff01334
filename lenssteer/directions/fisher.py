"""Fisher's linear discriminant: the difference in means, whitened by the scatter within the classes."""

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.directions.candidates import Candidates, along
from lenssteer.directions.evidence import Evidence
from lenssteer.directions.mean_difference import mean_difference
from lenssteer.errors import DirectionError, ParameterError


def fisher(evidence: Evidence, *, shrinkage: float = 0.1) -> Candidates:
    """Shrunk linear discriminant at every site.

        w_k = ((1 - s) W + s trace(W)/d I)^-1 (mean(x+_k) - mean(x-_k)),   W = (scatter+ + scatter-) / (n+ + n-)

    Args:
        evidence: Moments with scatter; no samples are needed, and counts may differ.
        shrinkage: s in [0, 1]; 1 gives the difference in means.

    Raises:
        ParameterError: when the shrinkage is outside its range.
        DirectionError: when the scatter was not kept, is singular at s = 0, or every site is degenerate.

    Source: Fisher 1936; shrunk as in scikit-learn's LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s). The
    Ledoit-Wolf choice of s needs fourth moments, which are not kept.
    """
    if not 0 <= shrinkage <= 1:
        raise ParameterError(f"shrinkage must lie in 0 to 1; got {shrinkage}.")
    evidence.need_scatter("fisher")
    vectors = torch.zeros_like(evidence.positive.mean)
    for k in mean_difference(evidence.positive, evidence.negative, evidence.sites).usable.nonzero().flatten().tolist():
        vectors[k] = fisher_direction(evidence, k, shrinkage)
    return along(evidence, vectors, "fisher")


def fisher_direction(evidence: Evidence, k: int, shrinkage: float = 0.1) -> Float64[Tensor, " d_model"]:
    """The discriminant of one site, not normalised; zero where nothing scatters.

    Raises:
        DirectionError: when the scatter was not kept, or is singular at shrinkage 0.
    """
    within = evidence.within("fisher", k) / (evidence.positive.n + evidence.negative.n)
    mean_variance = within.diagonal().mean()
    if mean_variance == 0:
        return torch.zeros_like(evidence.positive.mean[k])
    shrunk = (1 - shrinkage) * within
    shrunk.diagonal().add_(shrinkage * mean_variance)
    factor, failed = torch.linalg.cholesky_ex(shrunk / mean_variance)
    if failed or factor.diagonal().min() < 1e-7:
        raise DirectionError(f"the scatter within the classes is singular at {evidence.sites[k]}; "
                             "give shrinkage above 0.")
    difference = evidence.positive.mean[k] - evidence.negative.mean[k]
    return torch.cholesky_solve(difference.unsqueeze(-1), factor).squeeze(-1)
