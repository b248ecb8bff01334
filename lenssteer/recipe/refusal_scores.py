"""Scores of refusal-direction candidates: many candidates are rows of one stacked edit and share batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lenssteer import edits
from lenssteer.directions import Direction
from lenssteer.errors import DirectionError
from lenssteer.models import LensModel
from lenssteer.prompts import Encoded
from lenssteer.recipe.refusal_metric import next_token_logits, refusal_score
from lenssteer.site import Site, sites_of
from lenssteer.steering import Steerer

ARDITI_KL_EPSILON = 1e-6


def divergence(
    base: Float[Tensor, "*batch vocab"], steered: Float[Tensor, "*batch vocab"], *, compat: str | None = None
) -> Float64[Tensor, "*batch"]:
    """KL(base || steered) of next-token distributions, in nats.

    Args:
        base: Unsteered logits.
        steered: Steered logits.
        compat: "arditi" adds 1e-6 to both probabilities inside the logs, as the authors' code does.
    """
    p, q = torch.log_softmax(base.double(), -1), torch.log_softmax(steered.double(), -1)
    weight = p.exp()
    if compat == "arditi":
        p, q = torch.log(weight + ARDITI_KL_EPSILON), torch.log(q.exp() + ARDITI_KL_EPSILON)
    return torch.where(weight > 0, weight * (p - q), 0.0).sum(-1)


def score_candidates(
    model: LensModel,
    candidates: Sequence[tuple[Direction, int]],
    harmful: Sequence[Encoded],
    harmless: Sequence[Encoded],
    tokens: Sequence[int],
    *,
    compat: str | None = None,
    progress: str = "",
) -> list[dict[str, Any]]:
    """Bypass, induce and KL of every candidate.

        bypass   mean metric on harmful prompts, the direction ablated at every write
        induce   mean metric on harmless prompts, the raw difference added at its own site, coefficient 1
        kl       mean KL(base || ablated) on harmless prompts

    Source: Arditi et al. 2024, arXiv:2406.11717, appendix C.
    """
    base = torch.cat([logits for _, logits in _in_order(next_token_logits(model, harmless))])
    ablation = _ablation(model, [direction for direction, _ in candidates])
    count = len(candidates)
    bypass = torch.zeros(count, len(harmful), dtype=torch.float64)
    kl = torch.zeros(count, len(harmless), dtype=torch.float64)
    with ablation.on(model):
        for candidate, prompt, logits in _crossed(model, harmful, count, f"{progress}: ablation on harmful"
                                                  if progress else ""):
            bypass[candidate, prompt] = refusal_score(logits, tokens, compat=compat)
        for candidate, prompt, logits in _crossed(model, harmless, count, f"{progress}: ablation on harmless"
                                                  if progress else ""):
            kl[candidate, prompt] = divergence(base[prompt], logits, compat=compat)
    induce = _induced(model, candidates, harmless, tokens, compat)
    return [{"site": str(direction.site), "layer": direction.site.layer, "position": position,
             "length": direction.length, "bypass": float(bypass[i].mean()), "induce": float(induce[i].mean()),
             "kl": float(kl[i].mean())} for i, (direction, position) in enumerate(candidates)]


def _ablation(model: LensModel, directions: Sequence[Direction]) -> Steerer:
    edit = edits.ablate(torch.stack([direction.vector for direction in directions]))
    return Steerer(dict.fromkeys(sites_of("every_write", model.card.n_layers), edit))


def _induced(model: LensModel, candidates: Sequence[tuple[Direction, int]], harmless: Sequence[Encoded],
             tokens: Sequence[int], compat: str | None) -> Float64[Tensor, "candidates prompts"]:
    """The metric under addition: the candidates of one site are one stacked edit."""
    induce = torch.zeros(len(candidates), len(harmless), dtype=torch.float64)
    by_site: dict[Site, list[int]] = {}
    for i, (direction, _) in enumerate(candidates):
        by_site.setdefault(direction.site, []).append(i)
    for site, members in by_site.items():
        raw = torch.stack([candidates[i][0].raw for i in members])
        with Steerer({site: edits.add(raw, torch.ones(len(members)))}).on(model):
            for candidate, prompt, logits in _crossed(model, harmless, len(members), ""):
                induce[torch.tensor(members)[candidate], prompt] = refusal_score(logits, tokens, compat=compat)
    return induce


def _crossed(model: LensModel, encoded: Sequence[Encoded], count: int, progress: str) -> Any:
    """Every prompt under every row of a stacked edit: which candidate, which prompt, and their logits."""
    total = len(encoded)
    rows = [i // total for i in range(count * total)]
    for index, logits in next_token_logits(model, list(encoded) * count, rows=rows, progress=progress):
        yield index // total, index % total, logits


def _in_order(found: Any) -> list[tuple[int, Tensor]]:
    """Batches of lines as single lines, in the order of the prompts."""
    lines = [(int(i), line.unsqueeze(0)) for index, batch in found for i, line in zip(index, batch, strict=True)]
    return sorted(lines, key=lambda entry: entry[0])


def choose(
    scores: Sequence[Mapping[str, Any]],
    n_layers: int,
    compat: str | None = None,
    *,
    max_kl: float | int = 0.1,
    min_induce: float | int = 0.0,
) -> int:
    """Index of the candidate with the lowest bypass among those that pass every filter.

        paper           induce > min_induce,   kl < max_kl,   layer < 0.8 L
        compat arditi   induce >= min_induce,  kl <= max_kl,  layer < int(0.8 L)

    Scores that are not a number fail. The two numbers are the paper's; in a model of a few dozen dimensions the
    ablation of any direction costs more KL.

    Args:
        scores: What `score_candidates` gives.
        n_layers: Blocks of the model.
        compat: "arditi" for the boundaries of the authors' code.
        max_kl: In nats.
        min_induce: In log-odds.

    Raises:
        DirectionError: when none passes, with how many each filter removed, and the lowest bypass there was.

    Source: Arditi et al. 2024, arXiv:2406.11717, appendix C, and the authors' code.
    """
    removed = {"a score that is not a number": 0, "a layer at 0.8 of the depth or deeper": 0,
               f"a kl not below {max_kl}": 0, f"an induce not above {min_induce}": 0}
    kept: list[int] = []
    for i, line in enumerate(scores):
        failed = _failed(line, n_layers, compat is None, max_kl, min_induce)
        for name, bad in zip(removed, failed, strict=True):
            removed[name] += bad
        if not any(failed):
            kept.append(i)
    if not kept:
        reasons = "; ".join(f"{count} had {name}" for name, count in removed.items() if count)
        best = min(scores, key=lambda line: (line["bypass"] != line["bypass"], line["bypass"]))
        raise DirectionError(
            f"none of {len(scores)} candidates passes: {reasons}. The lowest bypass is {best['bypass']:.2f} at "
            f"{best['site']}, position {best['position']}, with induce {best['induce']:.2f} and kl {best['kl']:.3f}. "
            "Set max_kl or min_induce for a small model, or check that the model refuses the positive prompts.")
    return min(kept, key=lambda i: scores[i]["bypass"])


def too_deep(layer: int, n_layers: int) -> bool:
    """Whether a layer lies at 0.8 of the depth or deeper, as the paper bounds it; in whole numbers.

    >>> too_deep(7, 10), too_deep(8, 10)
    (False, True)
    """
    return 5 * layer >= 4 * n_layers


def _failed(line: Mapping[str, Any], n_layers: int, strict: bool, max_kl: float | int,
            min_induce: float | int) -> list[bool]:
    layer, kl, induce = line["layer"], line["kl"], line["induce"]
    return [any(line[name] != line[name] for name in ("bypass", "induce", "kl")),
            too_deep(layer, n_layers) if strict else layer >= 4 * n_layers // 5,
            kl >= max_kl if strict else kl > max_kl,
            induce <= min_induce if strict else induce < min_induce]
