"""The calibration: what a contrast teaches about a model, and the steerers made from it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from lenssteer.capture import ClassMoments, ClassSamples
from lenssteer.directions import (
    Candidates,
    Direction,
    Evidence,
    Plane,
    discriminative_sites,
    find_directions,
    find_plane,
    global_direction,
)
from lenssteer.errors import DirectionError
from lenssteer.maths import random_plane
from lenssteer.methods import at_site, find_method, refuse_idle_amounts
from lenssteer.models import ModelCard
from lenssteer.recipe.choosing import chosen_sites
from lenssteer.recipe.comparing import Measure, direction_rows
from lenssteer.recipe.files import Stored, read_calibration, write_calibration
from lenssteer.recipe.table import site_table
from lenssteer.site import Site
from lenssteer.steering import Steerer, Where
from lenssteer.steering.files import reading

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learned from a contrast at the sites of one model.

    Args:
        moments: Class moments at every site.
        candidates: A direction at every site, by `finder`; the positive class projects higher.
        direction: The global direction b1: the candidate with the highest mean cosine.
        discriminative: Sites where the classes project on b1 with opposite signs, by `rule`.
        rule: How they were told; see `directions.discriminative_sites`.
        card: The model.
        fitted_plane: What `plane` gives; None where the candidates determine none.
        record: Contrast, position, template, counts, seconds, and the hashes of all prompts used.
        control: Seed of a random control; None for a real calibration.
        samples: The activations themselves, where they were kept.
        finder: How the candidates were found; see `directions.FINDERS`.
        kept: What `once` computed; shared by calibrations that differ in source or plane only.
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
    samples: ClassSamples | None = None
    finder: str = "mean_difference"
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def fit(cls, moments: ClassMoments, card: ModelCard, rule: str, record: Mapping[str, Any], *,
            source: Site | None = None, samples: ClassSamples | None = None, finder: str = "mean_difference",
            plane: str = "pca") -> "Calibration":
        """Directions from moments (and samples): everything about a calibration that needs no model.

        The global direction is that of `source`, or of the site with the highest mean cosine.
        """
        evidence = _evidence(moments, samples)
        candidates = find_directions(finder, evidence)
        direction = candidates.direction(source) if source is not None else global_direction(candidates)
        plus, minus = (moments.positive, moments.negative) if rule == "means" else (
            moments.positive_unit, moments.negative_unit)
        kept = discriminative_sites(plus, minus, direction, moments.sites, rule=rule)
        try:
            found = find_plane(plane, candidates, evidence, direction)
        except DirectionError:
            if plane != "pca":
                raise
            found = None
        return cls(moments, candidates, direction, kept, rule, card, found, record, samples=samples, finder=finder)

    @property
    def evidence(self) -> Evidence:
        """What direction finders and methods are fitted on."""
        return _evidence(self.moments, self.samples)

    @property
    def plane(self) -> Plane:
        """The plane of b1 and the principal component of all candidates, unless another was chosen.

        Raises:
            DirectionError: when fewer than two candidates differ.
        """
        return self.fitted_plane or find_plane("pca", self.candidates, self.evidence, self.direction)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All captured sites, in network order."""
        return self.candidates.sites

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed once for this calibration."""
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]

    def found(self, finder: str) -> Candidates:
        """The candidates of a direction finder; of a random control, its random ones.

        Raises:
            ParameterError: when the finder is unknown.
            DirectionError: when the calibration did not keep what it needs.
        """
        if self.control is not None or finder == self.finder:
            return self.candidates
        return self.once(("finder", finder), lambda: find_directions(finder, self.evidence))

    def using(self, finder: str) -> "Calibration":
        """The same evidence with directions by another finder: fisher, logistic, ...; see `directions.FINDERS`."""
        return Calibration.fit(self.moments, self.card, self.rule, self.record, samples=self.samples, finder=finder)

    def with_plane(self, kind: str) -> "Calibration":
        """The same directions with another plane: pca, leading, fisher, karcher; see `directions.PLANES`.

        Raises:
            ParameterError: when there is no such kind.
            DirectionError: when the evidence does not determine such a plane.
        """
        return replace(self, fitted_plane=find_plane(kind, self.candidates, self.evidence, self.direction))

    def table(self) -> list[dict[str, Any]]:
        """One line a site: length of its difference, agreement with the others, projections, whether it is kept."""
        return site_table(self.moments, self.candidates, self.direction, self.discriminative, self.evidence)

    def steerer(
        self,
        method: str,
        *,
        sites: str | Sequence[Site | str] | None = None,
        source: Site | str | None = None,
        where: str | Where | None = None,
        **parameters: Any,
    ) -> Steerer:
        """A steerer of one method.

        Args:
            method: A name of the catalogue; `lenssteer methods` lists them.
            sites: "discriminative", "all", "usable" (those with a direction), "every_write", or a list of sites; each
                method has its own default.
            source: Site whose direction is used in place of the global one.
            where: Which tokens are edited; see `Where`. Each method has its own default, mostly "all".
            **parameters: What the method takes, such as degrees= or coefficient=. An amount may be a tensor, which
                steers row i of a batch by its entry i, or a mapping from sites to amounts.

        Raises:
            ParameterError: when the method or a parameter is wrong.
            DirectionError: when there is no discriminative site, a site has no direction, or the calibration did not
                keep what the method needs.
        """
        chosen = find_method(method)
        values = chosen.values(parameters)
        fitted = self.at_source(source) if source is not None else self
        targets = chosen_sites(fitted, chosen, sites, values)
        edits = {site: chosen.build(fitted, site, **at_site(values, site)) for site in targets}
        refuse_idle_amounts(values, targets)
        options: dict[str, Any] = {"where": chosen.where}
        if chosen.options is not None:
            options |= chosen.options(fitted, sites=tuple(targets), **values)
        options["where"] = Where.parse(where if where is not None else options["where"])
        found = options.pop("provenance", {})
        provenance = {"method": method, **{name: _plain(value) for name, value in values.items()},
                      "finder": self.finder, "source": str(fitted.direction.site), "control": self.control,
                      "calibration": dict(self.record), **found}
        return Steerer(edits, card=self.card, provenance=provenance, **options)

    def at_source(self, source: Site | str) -> "Calibration":
        """The same calibration with the direction of one site as its global direction."""
        site = Site.parse(source) if isinstance(source, str) else source
        if self.control is not None:
            return replace(self, direction=self.candidates.direction(site))
        kind = self.fitted_plane.kind if self.fitted_plane else "pca"
        return self.once(("source", site, kind), lambda: replace(Calibration.fit(
            self.moments, self.card, self.rule, self.record, source=site, samples=self.samples, finder=self.finder,
            plane=kind), kept=self.kept))

    def random_control(self, seed: int = 0) -> "Calibration":
        """The same sites and lengths with a random direction and plane: what any method is compared with.

        The discriminative sites stay those of the real calibration; only what is done there is random.
        """
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.card.d_model, generator=draw, dtype=torch.float64)
        unit = (noise / noise.norm()).expand_as(self.candidates.difference)
        candidates = replace(self.candidates, difference=unit * self.candidates.difference.norm(dim=-1, keepdim=True))
        plane = Plane(random_plane(self.card.d_model, seed), self.direction.site, "random", kind="random")
        return replace(self, candidates=candidates, direction=replace(self.direction, vector=unit[0]),
                       fitted_plane=plane, control=seed, kept={})

    def compare_directions(self, directions: Mapping[str, Direction], measure: Measure, *, sense: float = -1.0,
                           where: str = "all") -> list[dict[str, Any]]:
        """Directions of any origin beside difference in means: cosine, length, and what `measure` finds.

        Args:
            directions: By name, such as that of an SAE latent; each at a captured site.
            measure: From the steerer as a function of strength to figures (effect, coherence, ...); strength 1
                displaces by the length of the difference in means, whatever the direction.
            sense: -1 steers away from the positive class, +1 towards it.
            where: Which tokens are edited.

        Returns:
            One line a direction; difference in means at the first direction's site comes first.

        Raises:
            DirectionError: when a site was not captured, or has no difference in means.
        """
        site = next(iter(directions.values())).site
        means = self.found("mean_difference")
        rows = {"difference in means": means.direction(site), **directions}
        return direction_rows(means, self.card, rows, measure, sense=sense, where=where)

    def save(self, folder: Path | str) -> Path:
        """Write `calibration.json` and its tensors.

        Raises:
            FileError: when the folder cannot be written.
        """
        stored = Stored(self.moments, self.card, self.rule, self.finder, self.direction.site, self.record,
                        self.fitted_plane, self.samples)
        return write_calibration(folder, stored, self.table())

    @classmethod
    def load(cls, folder: Path | str) -> "Calibration":
        """Read a saved calibration.

        Raises:
            FileError: when the folder is not a calibration, or is damaged.
            MismatchError: when it was written in another format version.
        """
        stored = read_calibration(folder)
        with reading(folder):
            fitted = cls.fit(stored.moments, stored.card, stored.rule, stored.record, source=stored.direction,
                             samples=stored.samples, finder=stored.finder)
        return replace(fitted, fitted_plane=stored.plane)


def _evidence(moments: ClassMoments, samples: ClassSamples | None) -> Evidence:
    return Evidence(moments.sites, moments.positive, moments.negative,
                    samples.positive if samples else None, samples.negative if samples else None)


def _plain(value: Any) -> Any:
    """A parameter as JSON."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(site): _plain(amount) for site, amount in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
