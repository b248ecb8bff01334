"""Every finder, plane and method on degenerate activations: what works, and which error says why it cannot.

    python -m tests.numerics.degenerate        prints the table of docs/numerics.md
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lenssteer.capture import ClassSamples
from lenssteer.directions import FINDERS, PLANES, Evidence, find_directions, find_plane, global_direction
from lenssteer.errors import DirectionError, LenssteerError, ParameterError, ShapeError
from lenssteer.methods import CATALOGUE
from lenssteer.models import ModelCard
from lenssteer.recipe import Calibration
from lenssteer.saes import Sae
from lenssteer.site import Site

WORKS, LETTERS = ".", {DirectionError: "D", ParameterError: "P", ShapeError: "S"}
NOT_FINITE = "!"
AMOUNTS = {"degrees": 40.0, "coefficient": 1.0, "strength": 0.5, "alpha": 0.5, "value": 2.0, "factor": 0.5}
D_MODEL, SITES = 12, tuple(Site(layer, "resid_post") for layer in range(3))


def normal(*shape: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    """Drawn activations."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + mean


def both(positive: Tensor, negative: Tensor) -> ClassSamples:
    """Samples of both classes."""
    return ClassSamples(SITES[: len(positive)], positive, negative)


def usual(scale: float = 1.0, n: int = 8, d_model: int = D_MODEL, sites: int = 3) -> ClassSamples:
    """Two classes that lie apart, differently at every site."""
    positive, negative = normal(sites, n, d_model, seed=1, mean=1.0), normal(sites, n, d_model, seed=2, mean=-1.0)
    return both(scale * positive, scale * negative)


def constant() -> ClassSamples:
    """Every prompt of a class at one point, whose mean of ten is not exactly that point."""
    points = normal(2, 3, 1, D_MODEL, seed=3) / 10
    return both(*points.expand(2, 3, 10, D_MODEL))


def rank_deficient() -> ClassSamples:
    """Activations of both classes on one line through the origin."""
    line, place = normal(3, 1, D_MODEL, seed=4), normal(2, 3, 8, 1, seed=5)
    return both((place[0] + 2) * line, (place[1] - 2) * line)


def with_entry(value: float) -> ClassSamples:
    """The usual samples with one entry replaced."""
    found = usual()
    positive = found.positive.clone()
    positive[1, 0, 0] = value
    return replace(found, positive=positive)


CASES: dict[str, Callable[[], ClassSamples]] = {
    "usual": usual,
    "one prompt": lambda: usual(n=1),
    "two prompts": lambda: usual(n=2),
    "one site": lambda: usual(sites=1),
    "d_model 1": lambda: usual(d_model=1),
    "d_model 2": lambda: usual(d_model=2),
    "more prompts than d_model": lambda: usual(n=40),
    "same classes": lambda: replace(usual(), negative=usual().positive),
    "constant": constant,
    "one line": rank_deficient,
    "zero": lambda: both(torch.zeros(3, 4, D_MODEL), torch.zeros(3, 4, D_MODEL)),
    "-0.0": lambda: both(torch.full((3, 4, D_MODEL), -0.0), torch.zeros(3, 4, D_MODEL)),
    "1e-30": lambda: usual(1e-30),
    "denormal": lambda: usual(1e-42),
    "1e30": lambda: usual(1e30),
    "outlier 1e30": lambda: with_entry(1e30),
    "nan": lambda: with_entry(float("nan")),
    "inf": lambda: with_entry(float("inf")),
}


def fitted(samples: ClassSamples) -> Calibration:
    """A calibration of samples alone."""
    card = ModelCard("drawn", "none", "hf", 4, samples.positive.shape[-1], 64)
    return Calibration.fit(samples.moments(), card, "means", {"at": "last"}, samples=samples)


def small_sae(d_model: int) -> Sae:
    """Four latents."""
    draw = normal(4, d_model, seed=6)
    return Sae(SITES[1], W_enc=draw.T.contiguous(), W_dec=draw / 2, b_enc=torch.zeros(4), b_dec=torch.zeros(d_model),
               kind="standard")


def letter(attempt: Callable[[], bool]) -> str:
    """How an attempt ends: only errors of lenssteer are caught."""
    try:
        return WORKS if attempt() else NOT_FINITE
    except LenssteerError as error:
        return LETTERS[type(error)]


def finder(name: str, samples: Callable[[], ClassSamples]) -> bool:
    """Whether a finder's directions are unit vectors on which the positive class projects higher."""
    held = samples()
    candidates = find_directions(name, Evidence.of(held.sites, held.positive, held.negative))
    unit = candidates.unit[candidates.usable]
    return bool(torch.isfinite(candidates.difference).all()) and bool(((unit.norm(dim=-1) - 1).abs() < 1e-9).all())


def plane(kind: str, samples: Callable[[], ClassSamples]) -> bool:
    """Whether a plane of that kind is orthonormal."""
    held = samples()
    evidence = Evidence.of(held.sites, held.positive, held.negative)
    candidates = find_directions("mean_difference", evidence)
    basis = find_plane(kind, candidates, evidence, global_direction(candidates)).basis
    return bool(((basis @ basis.T - torch.eye(2)).abs() < 1e-9).all())


def method(name: str, samples: Callable[[], ClassSamples]) -> bool:
    """Whether a method's edits leave activations like those it was fitted on, and extreme ones, finite."""
    held = samples()
    [chosen] = [one for one in CATALOGUE if one.name == name]
    options = {chosen.amount.name: AMOUNTS[chosen.amount.name]} if chosen.amount else {}
    if chosen.sites == "latent":
        options |= {"sae": small_sae(held.positive.shape[-1]), "latent": 1}
    last = [held.sites[-1]] if chosen.sites in ("source", "discriminative") else None
    steerer = fitted(held).steerer(name, sites=last, **options)
    zero = torch.zeros(4, held.positive.shape[-1])
    extremes = torch.cat([zero, -zero, zero + 1e-45, zero + 1e-20])
    seen = [*held.positive.flatten(0, 1), *extremes]
    return all(bool(torch.isfinite(edit(torch.stack(seen).unsqueeze(0))).all()) for edit in steerer.edits.values())


ROWS: dict[str, tuple[Callable[[str, Callable[[], ClassSamples]], bool], str]] = {
    **{f"finder {name}": (finder, name) for name in FINDERS},
    **{f"plane {name}": (plane, name) for name in PLANES},
    **{one.name: (method, one.name) for one in CATALOGUE},
}


def outcomes(row: str) -> str:
    """A letter a case."""
    attempt, name = ROWS[row]
    return "".join(letter(lambda case=case: attempt(name, case)) for case in CASES.values())


def markdown(found: Mapping[str, str]) -> list[str]:
    """The table by case: what works, and the names of what ends in each error."""
    words = {"D": "DirectionError", "P": "ParameterError", "S": "ShapeError", NOT_FINITE: "non-finite, so the run stops"}
    lines = ["| activations | all work but |", "|---|---|"]
    for k, case in enumerate(CASES):
        ends: dict[str, list[str]] = {}
        for row, line in found.items():
            if line[k] != WORKS:
                ends.setdefault(words[line[k]], []).append(row)
        everything = [end for end, rows in ends.items() if len(rows) == len(found)]
        said = [f"{'none works' if end in everything else ', '.join(rows)}: {end}" for end, rows in ends.items()]
        lines.append(f"| {case} | {'; '.join(said) or '-'} |")
    return lines


if __name__ == "__main__":
    print("\n".join(markdown({title: outcomes(title) for title in ROWS})))
