"""Samples with a known truth."""

import torch

from lenssteer.directions import Evidence
from lenssteer.maths import Moments
from lenssteer.site import sites_of

SITES = tuple(sites_of("norm_out", 2))


def samples(seed: int = 0, n: int = 40, m: int = 40, d_model: int = 9, signal: float = 2.0, offset: float = 3.0):
    """Correlated noise around +/- signal * truth, [sites, n, d_model] a class; the classes share their noise's shape."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(d_model, generator=draw, dtype=torch.float64)
    truth /= truth.norm()
    mixing = torch.randn(len(SITES), d_model, d_model, generator=draw, dtype=torch.float64) / d_model**0.5
    centre = torch.randn(len(SITES), 1, d_model, generator=draw, dtype=torch.float64) * offset
    sides = []
    for count, sign in ((n, 1), (m, -1)):
        noise = torch.randn(len(SITES), count, d_model, generator=draw, dtype=torch.float64) @ mixing
        sides.append(noise + sign * signal * truth + centre)
    return truth, sides[0], sides[1]


def evidence(**options) -> Evidence:
    _, positive, negative = samples(**options)
    return Evidence.of(SITES, positive, negative)


def without_samples(whole: Evidence, *, scatter: bool) -> Evidence:
    sides = [side if scatter else Moments(side.n, side.mean) for side in (whole.positive, whole.negative)]
    return Evidence(whole.sites, *sides)
