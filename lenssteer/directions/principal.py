"""Principal component of paired differences (linear artificial tomography)."""

from lenssteer.directions.candidates import Candidates, along
from lenssteer.directions.evidence import Evidence
from lenssteer.maths import leading_components


def principal(evidence: Evidence, *, centred: bool = False) -> Candidates:
    """First principal component of the differences between paired samples.

        v_k = argmax_v sum_i ((x+_ik - x-_ik - c_k).v)^2,  |v| = 1,    c_k = 0, or the mean difference where centred

    Args:
        evidence: Samples; the i-th positive is paired with the i-th negative.
        centred: Whether the mean difference is removed first; what is left is how pairs differ from each other.

    Raises:
        DirectionError: when samples were not kept or are not paired, or every site is degenerate.

    Source: Zou et al. 2023, arXiv:2310.01405, section 3.1. Departs from the authors' code, which orders each pair at
    random and then centres: uncentred is the limit of that for many pairs. The sign is that of the class means, not a
    vote of training labels.
    """
    positive, negative = evidence.need_pairs("principal")
    vectors = leading_components(positive.double() - negative.double(), centred=centred)
    return along(evidence, vectors, "principal")
