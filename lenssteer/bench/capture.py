"""(a) What reading activations costs: `calibrate` against the bare forward pass of the same tokens."""

from collections.abc import Iterator

from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import ratio
from lenssteer.errors import ModelError
from lenssteer.models import LensModel
from lenssteer.prompts import Columns, Encoded, Tokens, batches, pad
from lenssteer.recipe import calibrate

TARGET = 1.05
MOST_TOKENS, MOST_ROWS = 4096, 64
"""Of a batch of a bare pass: those that `calibrate` takes on a CPU by itself."""


def capture(stand: Stand) -> Iterator[Found]:
    """Ratios of `calibrate` at all norm outputs to the bare pass, and to `run_with_cache` of TransformerLens."""
    model = stand.model()
    groups = padded(model, model.encode(stand.prompts))
    sites = len(model.sites("norm_out"))
    yield Found({"capture_over_forward": ratio(
        lambda: calibrate(model, stand.contrast, sites="norm_out"), lambda: bare(model, groups),
        f"calibrate at {sites} norm outputs over the forward pass of the same {len(stand.prompts)} prompts, hf",
        repeats=stand.repeats, target=TARGET, clock=stand.clock)})
    try:
        hooked = stand.model("hooked")
    except ModelError as error:
        yield Found(notes=[f"capture_over_run_with_cache was left out: {error}"])
        return
    yield Found({"capture_over_run_with_cache": ratio(
        lambda: calibrate(hooked, stand.contrast, sites="norm_out"), lambda: cached(hooked, groups),
        f"calibrate at {sites} norm outputs over run_with_cache of the same outputs, HookedTransformer",
        repeats=stand.repeats, target=TARGET, clock=stand.clock)})


def padded(model: LensModel, encoded: list[Encoded]) -> list[Tokens]:
    """All prompts in batches of similar length."""
    groups = batches(encoded, tokens=MOST_TOKENS, rows=MOST_ROWS)
    return [pad([encoded[i] for i in group], pad_id=model.pad_id, rows=group) for group in groups]


def bare(model: LensModel, groups: list[Tokens]) -> None:
    """One pass over all prompts; the logits of the last column are computed and thrown away."""
    for tokens in groups:
        model.run(tokens.ids, Columns(0, tokens.mask, tokens))


def cached(model: LensModel, groups: list[Tokens]) -> None:
    """What TransformerLens offers for the same: the outputs of all norms in a cache, the last column taken out."""
    import torch

    inner = model.backend.model  # type: ignore[attr-defined]  # the HookedTransformer itself
    with torch.no_grad():
        for tokens in groups:
            ids, mask = tokens.ids.to(model.device), tokens.mask.to(model.device).long()
            _, found = inner.run_with_cache(ids, attention_mask=mask, names_filter=_is_norm, return_type=None)
            for value in found.values():
                value[:, -1].float().cpu()


def _is_norm(name: str) -> bool:
    return name.endswith(("ln1.hook_normalized", "ln2.hook_normalized"))
