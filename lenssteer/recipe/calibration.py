"""From prompts to a calibration, and from a calibration to a steerer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from lenssteer.capture import ClassMoments, ReadAt, capture_moments
from lenssteer.directions import (
    RULES,
    Candidates,
    Direction,
    Plane,
    candidate_plane,
    discriminative_sites,
    global_direction,
    mean_cosine,
    mean_difference,
    projections,
)
from lenssteer.errors import DirectionError, ParameterError
from lenssteer.maths import Moments, random_plane
from lenssteer.models import LensModel, ModelCard
from lenssteer.prompts import ContrastSet
from lenssteer.recipe.methods import Amount, Method, amount_for, find_method
from lenssteer.site import Site
from lenssteer.steering import Steerer, Where
from lenssteer.steering.files import read_artefact, reading, write_artefact


@dataclass(frozen=True)
class Calibration:
    """What was learned from a contrast set at the sites of one model.

    Args:
        moments: Class moments at every site.
        candidates: Difference in means at every site; the positive class projects higher.
        direction: The global direction b1: the candidate with the highest mean cosine.
        discriminative: Sites where the classes project on b1 with opposite signs, by `rule`.
        rule: How they were told; see `directions.discriminative_sites`.
        card: The model.
        record: Contrast set, position, template, counts, seconds.
        control: Seed of a random control; None for a real calibration.
    """

    moments: ClassMoments
    candidates: Candidates
    direction: Direction
    discriminative: tuple[Site, ...]
    rule: str
    card: ModelCard
    record: Mapping[str, Any] = field(default_factory=dict)
    control: int | None = None

    @property
    def plane(self) -> Plane:
        """The plane of b1 and the principal component of all candidates; drawn at random in a control.

        Raises:
            DirectionError: when fewer than two candidates differ.
        """
        return self._plane

    @cached_property
    def _plane(self) -> Plane:
        if self.control is not None:
            return Plane(random_plane(self.card.d_model, self.control), self.direction.site)
        return candidate_plane(self.candidates, self.direction)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All captured sites, in network order."""
        return self.candidates.sites

    def table(self) -> list[dict[str, Any]]:
        """One line a site: length of its difference, agreement with the others, projections, whether it is kept."""
        cosine = mean_cosine(self.candidates).tolist()
        plus, minus = projections(self.moments.positive_unit, self.moments.negative_unit, self.direction)
        length = self.candidates.difference.norm(dim=-1).tolist()
        return [{"site": str(site), "length": length[k], "mean_cosine": cosine[k] if usable else None,
                 "positive": plus[k].item(), "negative": minus[k].item(), "effect_size": self._effect_size(k),
                 "discriminative": site in self.discriminative, "degenerate": not usable}
                for k, (site, usable) in enumerate(zip(self.sites, self.candidates.usable.tolist(), strict=True))]

    def _effect_size(self, k: int) -> float | None:
        """Cohen's d of the site's own direction; None where the scatter was not kept or nothing varies."""
        positive, negative = self.moments.positive[k], self.moments.negative[k]
        if positive.scatter is None or not self.candidates.usable[k] or min(positive.n, negative.n) < 2:
            return None
        vector = self.candidates.unit[k]
        pooled = (positive.variance_along(vector) * (positive.n - 1) + negative.variance_along(vector)
                  * (negative.n - 1)) / (positive.n + negative.n - 2)
        return (self.candidates.difference[k].norm() / pooled.sqrt()).item() if pooled > 0 else None

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
        return fit(self.moments, self.card, self.rule, self.record, source=site)

    def random_control(self, seed: int = 0) -> "Calibration":
        """The same sites and lengths with a random direction and plane: what any method is compared with.

        The discriminative sites stay those of the real calibration; only what is done there is random.
        """
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.card.d_model, generator=draw, dtype=torch.float64)
        unit = (noise / noise.norm()).expand_as(self.candidates.difference)
        candidates = replace(self.candidates, difference=unit * self.candidates.difference.norm(dim=-1, keepdim=True))
        return replace(self, candidates=candidates, direction=replace(self.direction, vector=unit[0]), control=seed)

    def save(self, folder: Path | str) -> Path:
        """Write `calibration.json` and `tensors.safetensors`.

        Raises:
            FileError: when the folder cannot be written.
        """
        tensors = {f"{name}/{part}": tensor
                   for name, moments in self._named_moments().items()
                   for part, tensor in (("mean", moments.mean), ("scatter", moments.scatter)) if tensor is not None}
        meta = {"model": asdict(self.card), "rule": self.rule, "sites": [str(site) for site in self.sites],
                "n": {name: moments.n for name, moments in self._named_moments().items()},
                "direction": str(self.direction.site), "record": dict(self.record), "table": self.table()}
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
            return fit(ClassMoments(sites, **moments), ModelCard(**meta["model"]), meta["rule"], meta["record"],
                       source=Site.parse(meta["direction"]))


def fit(moments: ClassMoments, card: ModelCard, rule: str, record: Mapping[str, Any],
        source: Site | None = None) -> Calibration:
    """Directions from moments: everything about a calibration that needs no model.

    The global direction is that of `source`, or of the site with the highest mean cosine.
    """
    candidates = mean_difference(moments.positive, moments.negative, moments.sites)
    direction = candidates.direction(source) if source is not None else global_direction(candidates)
    plus, minus = (moments.positive, moments.negative) if rule == "means" else (
        moments.positive_unit, moments.negative_unit)
    kept = discriminative_sites(plus, minus, direction, moments.sites, rule=rule)
    return Calibration(moments, candidates, direction, kept, rule, card, record)


SCATTER_LIMIT = 64 * 2**20
"""Scatter matrices are kept by default while they take less than this many bytes."""


def calibrate(
    model: LensModel,
    contrast: ContrastSet,
    *,
    sites: str | Sequence[Site] = "norm_out",
    at: str | ReadAt = "last",
    rule: str = "unit_means",
    template: str | None = None,
    system: str | None = None,
    scatter: bool | None = None,
    progress: str = "",
) -> Calibration:
    """Learn directions, a plane and discriminative sites from a contrast set, in one pass over its prompts.

    Args:
        model: The model to be steered.
        contrast: Positive and negative prompts.
        sites: "norm_out" (the rotation papers' own), a stream such as "resid_post", or a list of sites.
        at: Which token is read; see `ReadAt`.
        rule: How discriminative sites are told; see `directions.discriminative_sites`.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all prompts.
        scatter: Whether to keep second moments, for effect sizes; by default when they take less than 64 MiB.
        progress: Label of a progress bar; "" for none.

    Raises:
        PromptError, SiteError, DirectionError, SteeringError: see the modules that raise them.

    Source: Dang & Ngo 2026, arXiv:2601.19375, section 3.
    """
    if rule not in RULES:
        raise ParameterError(f"unknown rule {rule!r}; expected one of {', '.join(RULES)}.")
    at = ReadAt.parse(at)
    started = perf_counter()
    wanted = model.sites(sites) if isinstance(sites, str) else sorted(sites)
    if scatter is None:
        scatter = 2 * len(wanted) * model.card.d_model**2 * 8 <= SCATTER_LIMIT
    moments = capture_moments(model, contrast, wanted, at, template=template, system=system, scatter=scatter,
                              progress=progress)
    record = {"contrast": contrast.name, "sha256": contrast.sha256, "at": str(at),
              "template": template or model.template, "system": system,
              "prompts": len(contrast.positive) + len(contrast.negative), "seconds": perf_counter() - started}
    return fit(moments, model.card, rule, record)
