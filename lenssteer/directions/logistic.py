"""Normal of the logistic regression that tells the classes apart."""

import torch

from lenssteer.directions.candidates import Candidates, along
from lenssteer.directions.evidence import Evidence
from lenssteer.directions.mean_difference import mean_difference
from lenssteer.maths import logistic_probe


def logistic(evidence: Evidence) -> Candidates:
    """Unit normal of the L2-penalised logistic regression at every site; sites with equal class means have none.

        v_k = w_k / |w_k|        see `logistic_boundary`

    Args:
        evidence: Samples; counts may differ.

    Raises:
        DirectionError: when samples were not kept, a probe does not converge, or every site is degenerate.

    Source: arXiv:2604.08169, Eq. 1-2, whose steering vector is (mu+ - mu-) v.
    """
    positive, negative = evidence.need_samples("logistic")
    vectors = torch.zeros_like(evidence.positive.mean)
    for k in mean_difference(evidence.positive, evidence.negative, evidence.sites).usable.nonzero().flatten().tolist():
        vectors[k], _ = logistic_probe(positive[k], negative[k])
    return along(evidence, vectors, "logistic")
