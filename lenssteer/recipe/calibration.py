"""The calibration: what a contrast set teaches about a model, and the steerers made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lenssteer.capture import ClassMoments
from lenssteer.directions import (
    Candidates,
    Direction,
    Plane,
    candidate_plane,
    discriminative_sites,
    global_direction,
    mean_difference,
)
from lenssteer.errors import DirectionError, ParameterError
from lenssteer.maths import Moments, random_plane
from lenssteer.models import ModelCard
from lenssteer.recipe.methods import Amount, Method, amount_for, find_method
from lenssteer.recipe.table import site_table
from lenssteer.site import Site
from lenssteer.steering import Steerer, Where
from lenssteer.steering.files import read_artefact, reading, write_artefact


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learned from a contrast set at the sites of one model.

    Args:
        moments: Class moments at every site.
        candidates: Difference in means at every site; the positive class projects higher.
        direction: The global direction b1: the candidate with the highest mean cosine.
        discriminative: Sites where the classes project on b1 with opposite signs, by `rule`.
        rule: How they were told; see `directions.discriminative_sites`.
        card: The model.
        fitted_plane: What `plane` gives; None where the candidates determine none.
        record: Contrast set, position, template, counts, seconds.
        control: Seed of a random control; None for a real calibration.
    """

    moments: ClassMoments
    candidates: Candidates
    direction: Direction
    discriminative: tuple[Site, ...]
    rule: str
    card: ModelCard
    fitted_plane: Plane | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    control: int | None = None

    @classmethod
    def fit(cls, moments: ClassMoments, card: ModelCard, rule: str, record: Mapping[str, Any],
            source: Site | None = None) -> "Calibration":
        """Directions from moments: everything about a calibration that needs no model.

        The global direction is that of `source`, or of the site with the highest mean cosine.
        """
        candidates = mean_difference(moments.positive, moments.negative, moments.sites)
        direction = candidates.direction(source) if source is not None else global_direction(candidates)
        plus, minus = (moments.positive, moments.negative) if rule == "means" else (
            moments.positive_unit, moments.negative_unit)
        kept = discriminative_sites(plus, minus, direction, moments.sites, rule=rule)
        try:
            plane = candidate_plane(candidates, direction)
        except DirectionError:
            plane = None
        return cls(moments, candidates, direction, kept, rule, card, plane, record)

    @property
    def plane(self) -> Plane:
        """The plane of b1 and the principal component of all candidates; a random one in a control.

        Raises:
            DirectionError: when fewer than two candidates differ.
        """
        return self.fitted_plane or candidate_plane(self.candidates, self.direction)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All captured sites, in network order."""
        return self.candidates.sites

    def table(self) -> list[dict[str, Any]]:
        """One line a site: length of its difference, agreement with the others, projections, whether it is kept."""
        return site_table(self.moments, self.candidates, self.direction, self.discriminative)

    def steerer(
        self,
        method: str,
        *,
        degrees: Amount | None = None,
        coefficient: Amount | None = None,
        sites: str | Sequence[Site | str] | None = None,
        source: Site | str | None = None,
        where: str | Where = "all",
    ) -> Steerer:
        """A steerer of one method.

        Args:
            method: A name of the catalogue: selective, standard-angular, adaptive-angular, ablation, addition.
            degrees: For rotations; a tensor steers row i of a batch by its entry i.
            coefficient: For addition, in multiples of the class difference; negative steers away from the
                positive class.
            sites: "discriminative", "all", or a list of sites; each method has its own default.
            source: Site whose direction is used in place of the global one (for ablation and addition).
            where: Which tokens are edited; see `Where`.

        Raises:
            ParameterError: when the method or its parameter is wrong.
            DirectionError: when there is no discriminative site, or a site has no direction.
        """
        chosen = find_method(method)
        amount = amount_for(chosen, degrees, coefficient)
        fitted = self.at_source(source) if source is not None else self
        where_sites = fitted._sites(chosen, sites)
        edits = {site: chosen.build(fitted, site, amount) for site in where_sites}
        provenance = {"method": method, chosen.parameter or "parameter": amount.tolist() if isinstance(
            amount, torch.Tensor) else amount, "control": self.control, "calibration": dict(self.record)}
        return Steerer(edits, Where.parse(where), self.card, provenance)

    def _sites(self, method: Method, sites: str | Sequence[Site | str] | None) -> list[Site]:
        wanted = method.sites if sites is None else sites
        if wanted == "source":
            return [self.direction.site]
        if wanted == "all":
            return list(self.sites)
        if wanted == "discriminative":
            if not self.discriminative:
                raise DirectionError("no site is discriminative: the classes project on the direction with the same "
                                     "sign everywhere. Use sites='all', or capture sites='norm_out'.")
            return list(self.discriminative)
        named = [wanted] if isinstance(wanted, str) else wanted
        parsed = [Site.parse(site) if isinstance(site, str) else site for site in named]
        for site in parsed:
            self.candidates.index(site)
        if not parsed:
            raise ParameterError("sites is empty; name at least one, or use 'all'.")
        return parsed

    def at_source(self, source: Site | str) -> "Calibration":
        """The same calibration with the direction of one site as its global direction."""
        site = Site.parse(source) if isinstance(source, str) else source
        if self.control is not None:
            return replace(self, direction=self.candidates.direction(site))
        return Calibration.fit(self.moments, self.card, self.rule, self.record, source=site)

    def random_control(self, seed: int = 0) -> "Calibration":
        """The same sites and lengths with a random direction and plane: what any method is compared with.

        The discriminative sites stay those of the real calibration; only what is done there is random.
        """
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.card.d_model, generator=draw, dtype=torch.float64)
        unit = (noise / noise.norm()).expand_as(self.candidates.difference)
        candidates = replace(self.candidates, difference=unit * self.candidates.difference.norm(dim=-1, keepdim=True))
        plane = Plane(random_plane(self.card.d_model, seed), self.direction.site, "random")
        return replace(self, candidates=candidates, direction=replace(self.direction, vector=unit[0]),
                       fitted_plane=plane, control=seed)

    def save(self, folder: Path | str) -> Path:
        """Write `calibration.json` and `tensors.safetensors`.

        Raises:
            FileError: when the folder cannot be written.
        """
        named = self._named_moments()
        tensors = {f"{name}/{part}": tensor for name, moments in named.items()
                   for part, tensor in (("mean", moments.mean), ("scatter", moments.scatter)) if tensor is not None}
        plane = self.fitted_plane
        if plane is not None:
            tensors["plane"] = plane.basis
        drawn = {"source": str(plane.source), "sign_rule": plane.sign_rule} if plane else None
        meta = {"model": asdict(self.card), "plane": drawn, "rule": self.rule,
                "sites": [str(site) for site in self.sites],
                "n": {name: moments.n for name, moments in named.items()}, "direction": str(self.direction.site),
                "record": dict(self.record), "table": self.table()}
        return write_artefact(folder, "calibration", meta, tensors)

    def _named_moments(self) -> dict[str, Moments]:
        return {name: getattr(self.moments, name)
                for name in ("positive", "negative", "positive_unit", "negative_unit")}

    @classmethod
    def load(cls, folder: Path | str) -> "Calibration":
        """Read a saved calibration.

        Raises:
            FileError: when the folder is not a calibration, or is damaged.
            MismatchError: when it was written in another format version.
        """
        meta, tensors = read_artefact(folder, "calibration")
        with reading(folder):
            moments = {name: Moments(n, tensors[f"{name}/mean"], tensors.get(f"{name}/scatter"))
                       for name, n in meta["n"].items()}
            sites = tuple(Site.parse(name) for name in meta["sites"])
            fitted = cls.fit(ClassMoments(sites, **moments), ModelCard(**meta["model"]), meta["rule"], meta["record"],
                             source=Site.parse(meta["direction"]))
            stored = meta["plane"]
            plane = Plane(tensors["plane"], Site.parse(stored["source"]), stored["sign_rule"]) if stored else None
            return replace(fitted, fitted_plane=plane)
