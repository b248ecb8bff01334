"""How far each method drifts from float64 in narrower dtypes.

    python -m tests.numerics.drift          prints the table of docs/numerics.md, in about a minute

Two figures a dtype: the error of the edit alone, and of all predictions of the steered model.

    edit     root mean square over tokens of |edit(h) - edit64(h)| / |edit64(h)|, h exact in the dtype
    model    mean over tokens of KL(p64 || p), both steered, in nats; "unsteered" is what the dtype costs anyway
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lenssteer.capture.capture import one_pass
from lenssteer.methods import CATALOGUE
from lenssteer.models import Decoding, LensModel, generate, load_model
from lenssteer.prompts import Tokens, pad
from lenssteer.recipe import Calibration, calibrate
from lenssteer.saes import Sae
from lenssteer.site import Site
from lenssteer.steering import Steerer
from lenssteer.studies.demo import demo_contrast, requests

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AMOUNTS: dict[str, dict[str, Any]] = {
    "selective": {"degrees": 200}, "standard-angular": {"degrees": 200}, "adaptive-angular": {"degrees": 200},
    "spherical": {"degrees": 100}, "sttp": {"toward": "negative"}, "stmp": {"toward": "negative"},
    "addition": {"coefficient": -1.0}, "caa": {"coefficient": -1.0}, "swfc": {"coefficient": -1.0},
    "cast": {"coefficient": -1.0}, "alphasteer": {"strength": -0.4}, "scale-latent": {"factor": 3.0},
    "clamp-latent": {"value": 3.0}, "add-latent": {"coefficient": 3.0},
}


@dataclass(frozen=True)
class Drift:
    """One method in one dtype.

    Args:
        edit: Relative error of the edited activations; None without a steerer.
        model: Mean KL divergence of the predictions from those in float64, in nats.
    """

    edit: float | None
    model: float


def calibrations(model: LensModel) -> dict[str, Calibration]:
    """At norm outputs for the rotations, at block outputs for the rest."""
    return {sites: calibrate(model, demo_contrast(), sites=sites) for sites in ("norm_out", "resid_post")}


def drawn_sae() -> Sae:
    """Sixteen random latents of the fourth block's output."""
    draw = torch.randn(16, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 128**0.5
    return Sae(Site(3, "resid_post"), W_enc=draw.T.contiguous(), W_dec=draw, b_enc=draw.new_zeros(16),
               b_dec=draw.new_zeros(128), kind="standard")


def steerers(fitted: Mapping[str, Calibration]) -> Iterator[tuple[str, Steerer | None]]:
    """Every method of the catalogue, at its own sites; those of one site at the fourth block."""
    yield "unsteered", None
    for method in CATALOGUE:
        rotation = method.sites == "discriminative" or method.name.endswith("angular")
        latent = {"sae": drawn_sae(), "latent": 6} if method.sites == "latent" else {}
        source = None if rotation or latent else "resid_post.3"
        yield method.name, fitted["norm_out" if rotation else "resid_post"].steerer(
            method.name, source=source, **AMOUNTS.get(method.name, {}), **latent)


def prompts_of(model: LensModel, each: int) -> Tokens:
    """Held-out prompts of both kinds with the unsteered answers."""
    asked = [one.text for kind in ("harmful", "harmless") for one in requests("selection", kind)[:each]]
    return pad(model.encode(asked, answers=generate(model, asked, Decoding(8))), pad_id=model.pad_id)


def log_probs(model: LensModel, tokens: Tokens, steerer: Steerer | None) -> Tensor:
    """Predictions at all tokens, float64."""
    with nullcontext() if steerer is None else steerer.on(model):
        return torch.log_softmax(model.logits(tokens).double(), -1)[tokens.mask]


def edit_error(steerer: Steerer, h: Mapping[Site, Tensor], dtype: torch.dtype) -> float:
    """Relative error of all edits of a steerer, on activations that the dtype holds exactly."""
    errors = []
    for site, edit in steerer.edits.items():
        held = h[site].to(dtype)
        exact, found = edit(held.double()), edit(held).double()
        errors.append(((found - exact).norm(dim=-1) / exact.norm(dim=-1)).square().mean())
    return torch.stack(errors).mean().sqrt().item()


def measure(names: Sequence[str] | None = None, each: int = 8) -> dict[str, dict[str, Drift]]:
    """Drift by method and dtype, on the demo model on plain transformers."""
    exact = load_model("demo", backend="hf", dtype="float64")
    narrow = {name: load_model("demo", backend="hf", dtype=name) for name in DTYPES}
    tokens = prompts_of(exact, each)
    sites = [*exact.sites("norm_out"), *exact.sites("resid_post")]
    last = torch.nn.functional.one_hot(tokens.prompt_end - 1, tokens.ids.shape[1]).unsqueeze(1).float()
    h = dict(zip(sites, one_pass(exact, tokens, sites, last)[:, :, 0].double(), strict=True))
    found: dict[str, dict[str, Drift]] = {}
    for name, steerer in steerers(calibrations(narrow["float32"])):
        if names is not None and name not in names:
            continue
        p = log_probs(exact, tokens, steerer)
        found[name] = {}
        for dtype, model in narrow.items():
            gap = (p.exp() * (p - log_probs(model, tokens, steerer))).sum(-1)
            error = edit_error(steerer, h, DTYPES[dtype]) if steerer is not None else None
            found[name][dtype] = Drift(error, gap.clamp_min(0).mean().item())
    return found


def markdown(found: Mapping[str, Mapping[str, Drift]]) -> list[str]:
    """The table: edit and model, dtype by dtype."""
    lines = ["| method | " + " | ".join(f"{dtype} edit | model" for dtype in DTYPES) + " |",
             "|---" * (1 + 2 * len(DTYPES)) + "|"]
    for name, drifts in found.items():
        cells = [part for drift in drifts.values()
                 for part in ("" if drift.edit is None else f"{drift.edit:.1e}", f"{drift.model:.1e}")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(markdown(measure())))
