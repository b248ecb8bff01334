"""Tensors in, tensors out: no model, no tokenizer, no files."""

from lenssteer.maths.moments import Moments
from lenssteer.maths.planes import (
    SIGN_RULE,
    fix_sign,
    orthonormalise,
    plane_of_candidates,
    principal_component,
    random_plane,
)

__all__ = [
    "SIGN_RULE",
    "Moments",
    "fix_sign",
    "orthonormalise",
    "plane_of_candidates",
    "principal_component",
    "random_plane",
]
