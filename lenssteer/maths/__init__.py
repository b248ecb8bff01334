"""Tensors in, tensors out: no model, no tokenizer, no files."""

from lenssteer.maths.components import leading_components, leading_eigenvector
from lenssteer.maths.grassmann import grassmann_exp, grassmann_log, karcher_mean
from lenssteer.maths.linear_probe import logistic_probe
from lenssteer.maths.moments import Moments
from lenssteer.maths.nullspace import null_space, second_moment
from lenssteer.maths.planes import (
    SIGN_RULE,
    fix_sign,
    orthonormalise,
    plane_of_candidates,
    principal_component,
    random_plane,
)
from lenssteer.maths.robust import geometric_median

__all__ = [
    "Moments",
    "SIGN_RULE",
    "fix_sign",
    "geometric_median",
    "grassmann_exp",
    "grassmann_log",
    "karcher_mean",
    "leading_components",
    "leading_eigenvector",
    "logistic_probe",
    "null_space",
    "orthonormalise",
    "plane_of_candidates",
    "principal_component",
    "random_plane",
    "second_moment",
]
