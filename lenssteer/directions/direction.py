"""Directions and planes: unit vectors with the site they were read at."""

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from lenssteer.maths import SIGN_RULE
from lenssteer.site import Site


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site; the positive class projects higher.

    Args:
        vector: Unit length, [d_model].
        site: Where it was read, and is to be written.
        length: Length of the raw difference it came from, in units of the activation.
        positive: Mean projection of the positive class on `vector`.
        negative: The same for the negative class.
    """

    vector: Float64[Tensor, " d_model"]
    site: Site
    length: float
    positive: float
    negative: float

    @property
    def raw(self) -> Float64[Tensor, " d_model"]:
        """The steering vector before normalisation: adding it moves by one class separation."""
        return self.vector * self.length


@dataclass(frozen=True, eq=False)
class Plane:
    """An orthonormal pair shared by the sites of a model.

    Args:
        basis: b1 and b2, [2, d_model].
        source: The site b1 was read at.
        sign_rule: How the sign of b2 was chosen.
        kind: What the plane is; see `PLANES`.
    """

    basis: Float64[Tensor, "2 d_model"]
    source: Site
    sign_rule: str = SIGN_RULE
    kind: str = "pca"
