"""The refusal direction: candidates at every site and position, scored on a validation split, one chosen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from lenssteer import edits
from lenssteer.capture import ReadAt
from lenssteer.capture.grid import Grid, capture_grid
from lenssteer.directions import Direction
from lenssteer.errors import DirectionError, ParameterError
from lenssteer.models import LensModel, ModelCard
from lenssteer.nearest import unknown
from lenssteer.prompts import ContrastSet, hashes, refuse_seen
from lenssteer.prompts.identity import reading_of
from lenssteer.recipe.refusal_metric import refusal_log_odds, refusal_tokens, require_compat
from lenssteer.recipe.refusal_scores import choose, score_candidates
from lenssteer.site import Site, sites_of
from lenssteer.steering import Steerer
from lenssteer.steering.files import read_artefact, reading, write_artefact

INTERVENTIONS = ("ablation", "addition", "addition-reverse")


@dataclass(frozen=True, eq=False)
class RefusalDirection:
    """The chosen refusal direction, and what every candidate scored.

    Args:
        direction: Unit vector, with the length of its raw difference in means.
        position: Offset from the end of the prompt at which it was read.
        tokens: First tokens of refusals, by which candidates were scored.
        scores: One line a candidate: site, layer, position, length, bypass, induce, kl, chosen.
        rule: "paper" or "arditi"; see `refusal_scores.choose`.
        card: The model.
        record: Hashes of both sets, counts before and after filtering, template, seconds.
    """

    direction: Direction
    position: int
    tokens: tuple[int, ...]
    scores: tuple[Mapping[str, Any], ...]
    rule: str
    card: ModelCard
    record: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> list[dict[str, Any]]:
        """The candidates, the chosen one first, then by bypass; what is not a number comes last."""
        return [dict(line) for line in sorted(self.scores, key=lambda line: (
            not line["chosen"], line["bypass"] != line["bypass"], line["bypass"]))]

    def steerer(self, intervention: str = "ablation", *, coefficient: float | int = 1.0) -> Steerer:
        """One of the paper's interventions, on all tokens of prompt and answer.

            ablation           h' = h - (r.h) r at resid_pre, attn_out and mlp_out of every block
            addition           h' = h + coefficient * |d| r at the direction's own site
            addition-reverse   h' = h - coefficient * |d| r at the direction's own site

        Args:
            intervention: One of the three.
            coefficient: Of the raw difference in means d, for addition.

        Raises:
            ParameterError: when the intervention is unknown, or ablation is given a coefficient.

        Source: Arditi et al. 2024, arXiv:2406.11717, section 2.4. Departs from the authors' code: no epsilon in the
        normalisation.
        """
        if intervention not in INTERVENTIONS:
            raise ParameterError(unknown("intervention", intervention, INTERVENTIONS))
        if intervention == "ablation":
            if coefficient != 1.0:
                raise ParameterError("ablation removes the whole component and takes no coefficient.")
            edit = edits.ablate(self.direction.vector)
            changes = dict.fromkeys(sites_of("every_write", self.card.n_layers), edit)
        else:
            signed = coefficient if intervention == "addition" else -coefficient
            changes = {self.direction.site: edits.add(self.direction.raw, signed)}
        provenance = {"method": f"refusal {intervention}", "coefficient": coefficient, "rule": self.rule,
                      "source": str(self.direction.site), "position": self.position, "calibration": dict(self.record)}
        return Steerer(changes, card=self.card, provenance=provenance)

    def save(self, folder: Path | str) -> Path:
        """Write `refusal.json` and its tensors into a folder.

        Raises:
            FileError: when the folder cannot be written.
        """
        found = self.direction
        meta = {"site": str(found.site), "position": self.position, "length": found.length, "positive": found.positive,
                "negative": found.negative, "tokens": list(self.tokens), "rule": self.rule, "model": asdict(self.card),
                "record": dict(self.record), "scores": [_kept(line) for line in self.scores]}
        return write_artefact(folder, "refusal", meta, {"vector": found.vector})

    @classmethod
    def load(cls, folder: Path | str) -> "RefusalDirection":
        """Read a saved refusal direction.

        Raises:
            FileError: when the folder holds none, or is damaged.
            MismatchError: when it was written in another format version.
        """
        meta, tensors = read_artefact(folder, "refusal")
        with reading(folder):
            direction = Direction(tensors["vector"], Site.parse(meta["site"]), meta["length"], meta["positive"],
                                  meta["negative"])
            scores = tuple({name: math.nan if value is None else value for name, value in line.items()}
                           for line in meta["scores"])
            return cls(direction, meta["position"], tuple(meta["tokens"]), scores, meta["rule"],
                       ModelCard(**meta["model"]), meta["record"])


def _kept(line: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a candidate for JSON, which has no NaN and no infinity."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in line.items()}


def refusal_direction(
    model: LensModel,
    train: ContrastSet,
    validation: ContrastSet,
    *,
    sites: str | Sequence[Site] = "resid_pre",
    tokens: Sequence[int] | None = None,
    filter: bool = True,
    compat: str | None = None,
    max_kl: float | int = 0.1,
    min_induce: float | int = 0.0,
    template: str | None = None,
    system: str | None = None,
    progress: str = "",
) -> RefusalDirection:
    """Find the one direction that carries refusal.

        candidates   mean(harmful) - mean(harmless) at every site and every template token after the instruction
        choose       lowest bypass with induce > 0, kl < 0.1 and layer < 0.8 L, scored on `validation`

    Args:
        model: Unsteered.
        train: Harmful (positive) and harmless prompts the candidates are computed from.
        validation: Other prompts of both kinds, on which candidates are scored.
        sites: A stream such as "resid_pre", or a list of sites.
        tokens: First tokens of refusals; found from `train` by default, see `refusal_tokens`.
        filter: Whether harmful prompts with a metric of 0 or less and harmless ones with 0 or more are left out first.
        compat: "arditi" for the epsilons and boundary rules of the authors' code.
        max_kl: Largest mean KL on harmless prompts that ablation may cost; see `refusal_scores.choose`.
        min_induce: What the mean metric on harmless prompts must exceed under addition.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        progress: Label of progress bars; "" for none.

    Raises:
        PromptError: when a validation prompt is in `train`, or first tokens do not tell the classes apart.
        DirectionError: when filtering empties a class, or no candidate passes.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 2.3 and appendices B, C. Departs from the authors' code:
    candidates without a direction of their own are skipped.
    """
    require_compat(compat)
    refuse_seen(_seen(train), [*validation.positive, *validation.negative], "the candidates")
    started = perf_counter()
    wanted = model.sites(sites) if isinstance(sites, str) else list(sites)
    form: dict[str, Any] = {"template": template, "system": system}
    found = tuple(tokens) if tokens is not None else refusal_tokens(model, train.positive, train.negative, **form,
                                                                   progress=progress and f"{progress}: tokens")
    kept = {name: _filtered(model, part, found, name, compat, form) if filter else part
            for name, part in (("train", train), ("validation", validation))}
    grid = capture_grid(model, kept["train"], wanted, **form, progress=progress and f"{progress}: candidates")
    candidates = usable_candidates(grid)
    harmful, harmless = (model.encode(prompts, **form)
                         for prompts in (kept["validation"].positive, kept["validation"].negative))
    scores = score_candidates(model, candidates, harmful, harmless, found, compat=compat, progress=progress)
    best = choose(scores, model.card.n_layers, compat, max_kl=max_kl, min_induce=min_induce)
    direction, position = candidates[best]
    counts = {name: {"given": _counts(part), "kept": _counts(kept[name])}
              for name, part in (("train", train), ("validation", validation))}
    record = {"contrast": train.name, "sha256": train.sha256, "validation_sha256": validation.sha256, **counts,
              "at": str(ReadAt.offset(position)), "template": template or model.template, "system": system,
              "seen": sorted({*_seen(train), *_seen(validation)}), "degenerate": int((~grid.usable).sum()),
              "max_kl": max_kl, "min_induce": min_induce, "filter": filter,
              **reading_of(model.tokenizer, template or model.template),
              "seconds": perf_counter() - started}
    lines = tuple({**line, "chosen": i == best} for i, line in enumerate(scores))
    return RefusalDirection(direction, position, found, lines, compat or "paper", model.card, record)


def usable_candidates(grid: Grid) -> list[tuple[Direction, int]]:
    """Every candidate with a direction of its own, and its position.

    Raises:
        DirectionError: when there is none.
    """
    places = [(grid.sites[i], grid.positions[k]) for i, k in grid.usable.nonzero().tolist()]
    if not places:
        raise DirectionError("both classes have the same mean at every site and position; are the prompts the same?")
    return [(grid.candidate(site, position), position) for site, position in places]


def _filtered(model: LensModel, contrast: ContrastSet, tokens: Sequence[int], name: str, compat: str | None,
              form: Mapping[str, Any]) -> ContrastSet:
    plus, minus = (refusal_log_odds(model, side, tokens, compat=compat, **form)
                   for side in (contrast.positive, contrast.negative))
    harmful, harmless = _where(contrast.positive, plus > 0), _where(contrast.negative, minus < 0)
    if not harmful or not harmless:
        raise DirectionError(f"filtering the {name} set by the refusal metric left {len(harmful)} of {len(plus)} "
                             f"harmful prompts (metric above 0) and {len(harmless)} of {len(minus)} harmless ones "
                             "(below 0); does the model refuse them in this template? Check tokens=, or use "
                             "filter=False.")
    return ContrastSet(harmful, harmless, contrast.name)


def _where(prompts: Sequence[str], keep: torch.Tensor) -> tuple[str, ...]:
    return tuple(prompt for prompt, kept in zip(prompts, keep.tolist(), strict=True) if kept)


def _counts(contrast: ContrastSet) -> list[int]:
    return [len(contrast.positive), len(contrast.negative)]


def _seen(contrast: ContrastSet) -> list[str]:
    return hashes([*contrast.positive, *contrast.negative])
