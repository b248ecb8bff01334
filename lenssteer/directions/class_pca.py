"""Principal component of both classes pooled."""

import torch

from lenssteer.directions.candidates import Candidates, along
from lenssteer.directions.evidence import Evidence
from lenssteer.maths import leading_eigenvector


def class_pca(evidence: Evidence) -> Candidates:
    """Direction of the highest variance of all samples, whatever their class.

        v_k = leading eigenvector of sum_i (x_ik - mean_k)(x_ik - mean_k)^T,  i over both classes

    Args:
        evidence: Moments with scatter; no samples are needed, and counts may differ.

    Raises:
        DirectionError: when the scatter was not kept, or every site is degenerate.

    Source: the PCA baseline of AxBench, Wu et al. 2025, arXiv:2501.17148. Departs from it: both classes are pooled.
    """
    vectors = [leading_eigenvector(evidence.total("class_pca", k)) for k in range(len(evidence.sites))]
    return along(evidence, torch.stack(vectors), "class_pca")
