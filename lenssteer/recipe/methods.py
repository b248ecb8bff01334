"""The catalogue of methods: how each becomes an edit at a site of a calibration.

A new method is a constructor in `edits` and one line here.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer import edits
from lenssteer.directions import Candidates, Direction, Plane
from lenssteer.edits import LowRankEdit
from lenssteer.errors import ParameterError
from lenssteer.site import Site

Amount = float | int | Float[Tensor, "*rows"]
DefaultSites = Literal["discriminative", "all", "source"]


@runtime_checkable
class Fitted(Protocol):
    """What a method may use of a calibration."""

    @property
    def candidates(self) -> Candidates: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def plane(self) -> Plane: ...


@dataclass(frozen=True)
class Method:
    """One way of steering.

    Args:
        name: As users write it.
        parameter: "degrees", "coefficient", or "" where there is none.
        sites: Where it acts unless the user says otherwise; "source" is the site of the direction alone.
        source: Paper and equation.
        build: From a calibration, a site and the parameter to an edit.
        default: Value of the parameter where the user gives none; None makes it required.
    """

    name: str
    parameter: Literal["degrees", "coefficient", ""]
    sites: DefaultSites
    source: str
    build: Callable[[Fitted, Site, Amount], LowRankEdit]
    default: float | None = None


def _add(fitted: Fitted, site: Site, coefficient: Amount) -> LowRankEdit:
    return edits.add(fitted.candidates.direction(site).raw, coefficient)


CATALOGUE: tuple[Method, ...] = (
    Method("selective", "degrees", "discriminative", "Dang & Ngo 2026, arXiv:2601.19375, Eq. 6 and 10",
           lambda fitted, _site, degrees: edits.rotate_by(fitted.plane.basis, degrees=degrees)),
    Method("standard-angular", "degrees", "all", "Vu & Nguyen 2025, arXiv:2510.26243, Eq. 2",
           lambda fitted, _site, degrees: edits.rotate_to(fitted.plane.basis, degrees=degrees)),
    Method("adaptive-angular", "degrees", "all", "Vu & Nguyen 2025, arXiv:2510.26243, Eq. 3",
           lambda fitted, _site, degrees: edits.rotate_to(fitted.plane.basis, degrees=degrees, adaptive=True)),
    Method("ablation", "", "all", "Arditi et al. 2024, arXiv:2406.11717, section 2.4",
           lambda fitted, _site, _amount: edits.ablate(fitted.direction.vector), default=0.0),
    Method("addition", "coefficient", "source", "Turner et al. 2023, arXiv:2308.10248; Rimsky et al. 2023, "
           "arXiv:2312.06681", _add, default=1.0),
)

METHODS: dict[str, Method] = {method.name: method for method in CATALOGUE}


def find_method(name: str) -> Method:
    """A method by name.

    Raises:
        ParameterError: when there is none; the nearest name is suggested.
    """
    if name in METHODS:
        return METHODS[name]
    close = difflib.get_close_matches(name, METHODS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ParameterError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}.{hint}")


def amount_for(method: Method, degrees: Amount | None, coefficient: Amount | None) -> Amount:
    """The one parameter the method takes.

    Raises:
        ParameterError: when it is missing, or another one was given.
    """
    given = {"degrees": degrees, "coefficient": coefficient}
    foreign = [name for name, value in given.items() if value is not None and name != method.parameter]
    if foreign:
        takes = f"takes {method.parameter}=" if method.parameter else "takes no angle or coefficient"
        raise ParameterError(f"{method.name} {takes}; got {foreign[0]}=.")
    value = given.get(method.parameter)
    value = method.default if value is None else value
    if value is None:
        raise ParameterError(f"{method.name} needs {method.parameter}=, for example {method.parameter}=180.")
    return value if isinstance(value, Tensor) else torch.as_tensor(float(value), dtype=torch.float64)
