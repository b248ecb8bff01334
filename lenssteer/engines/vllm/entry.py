"""One subfolder of a shelf: a saved steerer or calibration, and how it is served."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lenssteer.artefacts.limits import TENSORS
from lenssteer.artefacts.reading import opened, read_object, sha256_of_file
from lenssteer.engines.vllm.asked import OURS, UNSTEERED, Offer, Range
from lenssteer.errors import FileError, LenssteerError
from lenssteer.models import ModelCard
from lenssteer.recipe import Calibration
from lenssteer.site import Site
from lenssteer.steering import Steerer
from lenssteer.steering.steerer import refuse_other_model

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SERVE = "serve.json"
STRENGTH = "strength"
KINDS = ("steerer", "calibration")


class Serving(BaseModel):
    """How a folder of the shelf is served: `serve.json`.

    Without one, a steerer lets `strength` be set from 0 to 1, by default 1; a calibration serves "selective" with
    `degrees` from -360 to 360, which each request has to give.

    Args:
        method: Name in the catalogue; calibrations only.
        settings: Parameters that are fixed; calibrations only.
        sites: As `Calibration.steerer` takes them; calibrations only.
        source: Site whose direction is used; calibrations only.
        where: Which tokens; None for the method's or the steerer's own.
        schedule: Strength along the answer; None for the steerer's own.
        ranges: What a request may set: amounts of the method, and "strength".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "selective"
    settings: dict[str, float | int | str] = Field(default_factory=dict)
    sites: str | list[str] | None = None
    source: str | None = None
    where: str | None = None
    schedule: str | None = None
    ranges: dict[str, Range] = Field(default_factory=dict)


DEFAULTS = {"steerer": Serving(ranges={STRENGTH: Range(low=0, high=1, default=1)}),
            "calibration": Serving(ranges={"degrees": Range(low=-360, high=360)})}
CALIBRATION_ONLY = {"method", "settings", "sites", "source"}


@dataclass(frozen=True, eq=False)
class Entry:
    """One subfolder of a shelf, read.

    Args:
        offer: What requests see of it.
        origin: What is stored.
        serving: How it is served.
        sites: Where it edits or reads a condition.
        d_model: Width of the activations it is for.
    """

    offer: Offer
    origin: Calibration | Steerer
    serving: Serving
    sites: tuple[Site, ...] = ()
    d_model: int = 0

    def steerer(self, parameters: Mapping[str, float]) -> Steerer:
        """The steerer for these values of `offer.ranges`.

        Raises:
            LenssteerError: when the stored artefact does not give one, or its arrays are too large for float32.
        """
        how = self.serving
        amounts = {name: value for name, value in parameters.items() if name != STRENGTH}
        if isinstance(self.origin, Steerer):
            steerer = self.origin if how.where is None else self.origin.at(how.where)
        else:
            steerer = self.origin.steerer(how.method, sites=how.sites, source=how.source, where=how.where,
                                          **how.settings, **amounts)
        steerer = steerer if how.schedule is None else steerer.over(how.schedule)
        strength = parameters.get(STRENGTH, 1.0)
        steerer = steerer if strength == 1 else steerer.scaled(strength)
        for edit in steerer.edits.values():
            edit.to(dtype=torch.float32)
        return steerer

    def check(self, card: ModelCard, place: Path) -> None:
        """Refuse a model it was not made for.

        Raises:
            FileError: with the folder and what differs.
        """
        try:
            if self.origin.card is not None:
                refuse_other_model(self.origin.card, card)
        except LenssteerError as error:
            raise FileError(f"{place} cannot be served with this model: {error}") from error
        if self.d_model != card.d_model or max(self.sites).layer >= card.n_layers:
            raise FileError(f"{place} is for d_model {self.d_model} and acts up to {max(self.sites)}; {card.name} has "
                            f"d_model {card.d_model} and layers 0 to {card.n_layers - 1}.")


def read_entry(folder: Path, name: str) -> Entry:
    """Read a subfolder of a shelf and build its steerer once.

    Raises:
        FileError: when its name, what is stored, or its `serve.json` cannot be served.
    """
    place = folder / name
    if not NAME.fullmatch(name) or name == UNSTEERED:
        raise FileError(f"{place}: a steerer's name has letters, digits, _ and - only, 64 at most, and is not "
                        f"{UNSTEERED!r}; rename the folder.")
    kind = next((kind for kind in KINDS if (place / f"{kind}.json").is_file()), None)
    if kind is None:
        raise FileError(f"{place} holds no steerer.json and no calibration.json; save one there, or take it away.")
    try:
        serving = _serving(place, kind)
        origin = (Steerer if kind == "steerer" else Calibration).load(place)
        offer = Offer(name, _digest(place, kind), serving.ranges)
        example = Entry(offer, origin, serving).steerer(_example(serving.ranges))
    except LenssteerError as error:
        raise FileError(f"{place} cannot be served: {error}") from error
    if any(edit.rows is not None for edit in example.edits.values()):
        raise FileError(f"{place} steers row by row, and a request is one row; save one steerer for each row.")
    read = example.gate.conditions if example.gate is not None else ()
    return Entry(replace(offer, where=str(example.where)), origin, serving,
                 tuple(sorted({*example.sites, *(condition.site for condition in read)})),
                 next(iter(example.edits.values())).d_model)


def _example(ranges: Mapping[str, Range]) -> dict[str, float]:
    """The defaults; the lowest value where a request has to say."""
    return {name: one.low if one.default is None else one.default for name, one in ranges.items()}


def _serving(place: Path, kind: str) -> Serving:
    path = place / SERVE
    if not path.exists():
        return DEFAULTS[kind]
    try:
        serving = Serving.model_validate(read_object(path, folder=place)[0])
    except (OSError, ValidationError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    idle = sorted(CALIBRATION_ONLY & serving.model_fields_set) if kind == "steerer" else []
    if idle:
        raise FileError(f"{SERVE} sets {idle[0]}, which is for calibrations; a saved steerer has its own.")
    taken = sorted((set(serving.ranges) & set(serving.settings)) | (set(serving.ranges) & set(OURS)))
    if taken:
        raise FileError(f"{SERVE} lets requests set {taken[0]}, which is fixed in settings or means something else.")
    foreign = sorted(set(serving.ranges) - {STRENGTH}) if kind == "steerer" else []
    if foreign:
        raise FileError(f"{SERVE} lets requests set {foreign[0]}; of a saved steerer only {STRENGTH} can be set.")
    return serving


def _digest(place: Path, kind: str) -> str:
    """Hash of the files that say what an entry does."""
    digest = hashlib.sha256()
    named = [place / f"{kind}.json", *([place / SERVE] if (place / SERVE).exists() else []),
             *sorted(place.glob("*.safetensors"))]
    try:
        for path in named:
            with opened(path, TENSORS, folder=place) as file:
                digest.update(f"{path.suffix} {sha256_of_file(file)} ".encode())
    except OSError as error:
        raise FileError(f"{place} cannot be read: {error}") from error
    return digest.hexdigest()[:16]
