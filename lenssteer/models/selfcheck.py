"""What a model must show before it is used: that its hooks read and write what lenssteer says they do."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import ModelError
from lenssteer.models.lens import LensModel
from lenssteer.prompts import Columns, Tokens, pad
from lenssteer.prompts.tokens import Encoded
from lenssteer.site import Site, Stream

PROBE_TOKENS = 6


@dataclass(frozen=True)
class Claim:
    """One thing checked, and what was measured."""

    name: str
    holds: bool
    measured: str


def selfcheck(model: LensModel) -> list[Claim]:
    """Run all claims on a short made-up text.

        identity       edits that return their input unchanged leave the logits bit for bit
        <stream>       an edit at that stream of the middle layer changes the logits
        chain          resid_post of layer i is resid_pre of layer i + 1
        sums           resid_pre + attn_out is resid_mid, and resid_mid + mlp_out is resid_post, at every layer
                       (without a resid_mid: all three add up to resid_post); fails where a stream is misplaced
        padding        a left-padded row gives the logits of the row alone
        cache          the last column alone, after a cached prefix, gives the logits of the whole text

    Returns:
        The claims in that order; see `require`.
    """
    tokens = _probe(model)
    base = model.logits(tokens)
    middle = model.card.n_layers // 2
    claims = [_identity(model, tokens, base)]
    claims += [_writes(model, tokens, base, Site(middle, stream)) for stream in model.backend.streams]
    claims += [_chain(model, tokens), _sums(model, tokens, base), _padding(model, tokens, base)]
    claims += [_cache(model, tokens, base)]
    return claims


def require(model: LensModel) -> LensModel:
    """The model, if every claim holds.

    Raises:
        ModelError: with the claims that fail and what was measured.
    """
    failed = [claim for claim in selfcheck(model) if not claim.holds]
    if failed:
        found = "; ".join(f"{claim.name}: {claim.measured}" for claim in failed)
        raise ModelError(f"{model.card.name} fails its self-check on backend {model.card.backend!r} ({found}). "
                         "Steering it would be wrong without notice; try another backend.")
    return model


def _probe(model: LensModel) -> Tokens:
    vocab = len(model.tokenizer)
    ids = tuple(1 + (7 * i * i + 3 * i) % (vocab - 1) for i in range(PROBE_TOKENS))
    return pad([Encoded(ids, (0, len(ids)), len(ids))])


def _identity(model: LensModel, tokens: Tokens, base: Tensor) -> Claim:
    sites = [Site(layer, stream) for layer in range(model.card.n_layers) for stream in model.backend.streams]
    edits = [model.attach(site, lambda h, _columns: h.clone()) for site in sites]
    try:
        same = torch.equal(model.logits(tokens), base)
    finally:
        for detach in edits:
            detach()
    clean = torch.equal(model.logits(tokens), base)
    return Claim("identity", same and clean, "exact" if same and clean else "logits changed")


def _writes(model: LensModel, tokens: Tokens, base: Tensor, site: Site) -> Claim:
    detach = model.attach(site, lambda h, _columns: h * 0.5 + 1)
    try:
        change = _largest(model.logits(tokens) - base)
    finally:
        detach()
    return Claim(site.stream, change > 0, f"largest logit change {change:.1e}")


def _read(model: LensModel, tokens: Tokens, sites: list[Site]) -> dict[Site, Tensor]:
    read: dict[Site, Tensor] = {}

    def keep(site: Site) -> None:
        detaches.append(model.attach(site, lambda h, _columns: read.update({site: h.clone()})))

    detaches: list = []
    for site in sites:
        keep(site)
    try:
        model.logits(tokens)
    finally:
        for detach in detaches:
            detach()
    return read


def _chain(model: LensModel, tokens: Tokens) -> Claim:
    if model.card.n_layers < 2:
        return Claim("chain", True, "one layer")
    pairs = [(Site(i, "resid_post"), Site(i + 1, "resid_pre")) for i in range(model.card.n_layers - 1)]
    read = _read(model, tokens, [site for pair in pairs for site in pair])
    worst = max(_largest(read[post].to("cpu") - read[pre].to("cpu")) for post, pre in pairs)
    return Claim("chain", worst == 0, f"largest difference {worst:.1e}")


def _sums(model: LensModel, tokens: Tokens, base: Tensor) -> Claim:
    parts: list[Stream] = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    if not set(parts) <= set(model.backend.streams):
        return Claim("sums", True, "not all of these streams")
    middle: list[Stream] = ["resid_mid"] if "resid_mid" in model.backend.streams else []
    worst = 0.0
    for layer in range(model.card.n_layers):
        sites = [Site(layer, stream) for stream in (*parts, *middle)]
        read = _read(model, tokens, sites)
        pre, attn, mlp, post, *mid = (read[site] for site in sites)
        gaps = [pre + attn - mid[0], mid[0] + mlp - post] if mid else [pre + attn + mlp - post]
        worst = max(worst, *(_largest(gap) / max(_largest(post), 1e-30) for gap in gaps))
    tolerance = 1e-5 if base.dtype in (torch.float32, torch.float64) else 3e-2
    return Claim("sums", worst <= tolerance, f"largest relative difference {worst:.1e}")


def _padding(model: LensModel, tokens: Tokens, base: Tensor) -> Claim:
    short = Encoded(tuple(tokens.ids[0, :-2].tolist()), (0, 1), PROBE_TOKENS - 2)
    both = pad([Encoded(tuple(tokens.ids[0].tolist()), (0, 1), PROBE_TOKENS), short])
    worst = _largest(model.logits(both)[1, 2:] - base[0, :-2])
    return Claim("padding", worst <= _tolerance(base), f"largest difference {worst:.1e}")


def _cache(model: LensModel, tokens: Tokens, base: Tensor) -> Claim:
    cache = model.backend.new_cache(1)
    model.run(tokens.ids[:, :-1], Columns(0, tokens.mask[:, :-1], tokens), cache)
    last = model.run(tokens.ids[:, -1:], Columns(PROBE_TOKENS - 1, tokens.mask, tokens), cache)
    worst = _largest(last[:, -1] - base[:, -1])
    return Claim("cache", worst <= _tolerance(base), f"largest difference {worst:.1e}")


def _largest(difference: Float[Tensor, "*any"]) -> float:
    return difference.abs().max().item()


def _tolerance(logits: Tensor) -> float:
    """Rounding in float32 is near 1e-6 of the logits; bfloat16 keeps 8 bits."""
    relative = 1e-4 if logits.dtype in (torch.float32, torch.float64) else 6e-2
    return relative * max(logits.abs().max().item(), 1.0)
