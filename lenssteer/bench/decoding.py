"""(b) What steering costs while answers are drawn: every method of the catalogue at all norm outputs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import Ratio, ratio
from lenssteer.bench.vllm import vllm_model
from lenssteer.errors import LenssteerError
from lenssteer.methods import CATALOGUE, Method
from lenssteer.models import generate
from lenssteer.saes import Sae
from lenssteer.steering import Steerer

TARGETS = {"hf": 1.05, "vllm": 1.10}
DEGREES, LATENTS = 100.0, 1024
FIRST_LAYER_IS_READ = ("cast",)
"""Methods that read a condition before the first edit, so their edits begin one layer later."""


def decoding(stand: Stand) -> Iterator[Found]:
    """Seconds steered over seconds unsteered, by engine and method; each engine draws the same number of tokens."""
    for engine in ("hf", "vllm"):
        try:
            answer = answering(stand, engine)
        except LenssteerError as error:
            yield Found(notes=[f"steered_over_unsteered/{engine} was left out: {error}"])
            continue
        for method in CATALOGUE[:2] if stand.quick else CATALOGUE:
            name = f"steered_over_unsteered/{engine}/{method.name}"
            try:
                steerer = steerer_of(stand, method)
                yield Found({name: compared(stand, engine, answer, steerer, method.name)})
            except LenssteerError as error:
                yield Found(notes=[f"{name} failed: {type(error).__name__}: {error}"])
    yield Found(notes=[f"steered_over_unsteered: edits at {len(stand.sites)} norm outputs; a random model has hardly a "
                       "discriminative site, so all that have a direction are taken; latents act at one site"])


def compared(stand: Stand, engine: str, answer: Callable[[Steerer | None], int], steerer: Steerer, name: str) -> Ratio:
    """One ratio of steered to unsteered answers."""
    return ratio(lambda: answer(steerer), lambda: answer(None),
                 f"{name} at {len(steerer.sites)} sites over unsteered: {len(stand.asked)} prompts, "
                 f"{stand.decoding.max_new_tokens} new tokens, {engine}", repeats=stand.repeats,
                 target=TARGETS.get(engine), clock=stand.clock)


def answering(stand: Stand, engine: str) -> Callable[[Steerer | None], int]:
    """A function that answers all prompts under a steerer and says how many tokens it drew.

    Raises:
        LenssteerError: when the engine is not installed, or does not take the model.
    """
    if engine == "vllm":
        model = vllm_model(stand)
        encoded = model.encode(stand.asked)
        return lambda steerer: sum(map(len, model.drawn(steerer, encoded, stand.decoding)))
    return partial(_answer, stand, engine)


def _answer(stand: Stand, backend: str, steerer: Steerer | None) -> int:
    model = stand.model(backend)
    if steerer is None:
        generate(model, stand.asked, stand.decoding)
    else:
        with steerer.on(model):
            generate(model, stand.asked, stand.decoding)
    return len(stand.asked) * stand.decoding.max_new_tokens


def steerer_of(stand: Stand, method: Method) -> Steerer:
    """A method at all sites, at a strength that changes answers; at one site where it is about a latent."""
    given: dict[str, Any] = {}
    if method.amount is not None and method.amount.name == "degrees":
        given["degrees"] = DEGREES
    if method.sites == "latent":
        amount = method.amount
        given = {"sae": random_sae(stand), "latent": 7, amount.name if amount else "": 2.0}
        return stand.calibration.steerer(method.name, **given)
    late = method.name in FIRST_LAYER_IS_READ
    sites = [site for site in stand.sites if site.layer or not late]
    return stand.calibration.steerer(method.name, sites=sites, **given)


def random_sae(stand: Stand) -> Sae:
    """A random autoencoder in the middle of the model."""
    draw = torch.Generator().manual_seed(0)
    width, site = stand.calibration.card.d_model, stand.sites[len(stand.sites) // 2]
    rows = torch.randn(LATENTS, width, generator=draw)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    return Sae(site, "standard", rows.T.contiguous(), rows, torch.zeros(width), b_enc=torch.zeros(LATENTS))
