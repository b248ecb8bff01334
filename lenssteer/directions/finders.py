"""The catalogue of direction finders: evidence in, one candidate a site out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lenssteer.directions.candidates import Candidates
from lenssteer.directions.class_pca import class_pca
from lenssteer.directions.evidence import Evidence
from lenssteer.directions.fisher import fisher
from lenssteer.directions.logistic import logistic
from lenssteer.directions.mean_centring import mean_centring
from lenssteer.directions.mean_difference import mean_difference
from lenssteer.directions.named import look_up
from lenssteer.directions.pairwise_pca import pairwise_pca
from lenssteer.directions.planes import PLANES
from lenssteer.directions.principal import principal
from lenssteer.directions.robust_mean import robust_mean


@dataclass(frozen=True)
class Finder:
    """One way of finding directions.

    Args:
        name: As users write it.
        source: Paper.
        needs: "means", "scatter" or "samples" of the evidence.
        find: From evidence to candidates.
    """

    name: str
    source: str
    needs: Literal["means", "scatter", "samples"]
    find: Callable[[Evidence], Candidates]


FINDERS: dict[str, Finder] = {finder.name: finder for finder in (
    Finder("mean_difference", "arXiv:2406.11717", "means",
           lambda evidence: mean_difference(evidence.positive, evidence.negative, evidence.sites)),
    Finder("mean_centring", "arXiv:2312.03813", "means", mean_centring),
    Finder("robust_mean", "Weiszfeld 1937", "samples", robust_mean),
    Finder("principal", "arXiv:2310.01405", "samples", principal),
    Finder("pairwise_pca", "arXiv:2409.05907", "samples", pairwise_pca),
    Finder("class_pca", "arXiv:2501.17148", "scatter", class_pca),
    Finder("fisher", "Fisher 1936", "scatter", fisher),
    Finder("logistic", "arXiv:2604.08169", "samples", logistic),
)}


def find_directions(name: str, evidence: Evidence) -> Candidates:
    """A direction at every site, by the finder of that name.

    Raises:
        ParameterError: when the finder is unknown; the nearest name is suggested.
        DirectionError: when what it needs was not kept, or no site has a direction.
    """
    return look_up(FINDERS, name, "finder").find(evidence)


def require_finder(finder: str, plane: str = "pca") -> None:
    """Refuse unknown names before any work is done.

    Raises:
        ParameterError: when the finder or the kind of plane is unknown; the nearest name is suggested.
    """
    look_up(FINDERS, finder, "finder")
    look_up(PLANES, plane, "plane")
