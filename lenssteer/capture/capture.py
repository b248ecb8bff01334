"""Read activations: one pass over the prompts for every site, reduced where they arise.

A hook keeps one vector a prompt and site; the pass ends at the last site that is wanted, so later layers and the
unembedding are never computed. What stays in memory does not grow with the number of prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.artefacts.unfinished import Unfinished
from lenssteer.capture.encoding import encode_contrast
from lenssteer.capture.positions import ReadAt
from lenssteer.capture.resuming import Sums, key_of
from lenssteer.errors import ParameterError, SteeringError
from lenssteer.maths import Moments
from lenssteer.models import LensModel
from lenssteer.models.sizing import fitting
from lenssteer.prompts import AnswerContrast, Columns, ContrastSet, Encoded, Tokens, pad
from lenssteer.site import Site

HELD_VALUES = 1 << 22
"""Values held before they are merged: merging [d_model, d_model] scatters after every batch would cost more than it
saves memory."""


class _Done(Exception):
    """The last wanted site was read; the rest of the pass is not needed."""


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Moments of both classes at every site.

    Args:
        sites: In network order; the leading axis of every mean.
        positive: Of the positive prompts.
        negative: Of the negative prompts.
        positive_unit: The same after dividing each activation by its norm; means only.
        negative_unit: The same.
    """

    sites: tuple[Site, ...]
    positive: Moments
    negative: Moments
    positive_unit: Moments
    negative_unit: Moments


def activations(
    model: LensModel,
    encoded: Sequence[Encoded],
    sites: Sequence[Site],
    at: ReadAt,
    *,
    batch_tokens: int | None = None,
    batch_size: int | None = None,
    progress: str = "",
) -> Iterator[tuple[Int[Tensor, " batch"], Float[Tensor, "sites batch d_model"]]]:
    """Activations batch by batch, float32: which prompts, and one vector a site and prompt.

    Args:
        model: Steered or not.
        encoded: Prompts, with answers where `at` reads answers.
        sites: Any order; the leading axis follows it.
        at: Which token, or span, of each prompt.
        batch_tokens: Most padded tokens of a batch; None for any number.
        batch_size: Most prompts of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when no site is asked for.
        SteeringError: when an activation is not finite.
    """
    if not sites:
        raise ParameterError("no sites to capture; name at least one.")

    def read(group: list[int]) -> tuple[Tensor, Tensor]:
        tokens = pad([encoded[i] for i in group], pad_id=model.pad_id, rows=group)
        return tokens.rows, one_pass(model, tokens, sites, at.weights(tokens).unsqueeze(1))[:, :, 0]

    for _, found in fitting(model, encoded, read, rows=batch_size, tokens=batch_tokens, progress=progress):
        yield found


def one_pass(
    model: LensModel, tokens: Tokens, sites: Sequence[Site], weights: Float[Tensor, "batch picks pos"]
) -> Float[Tensor, "sites batch picks d_model"]:
    """Weighted means over columns, some of them a prompt, at every site; the pass ends at the last one.

    Raises:
        SteeringError: when an activation is not finite, or the pass misses a site.
    """
    read: dict[Site, Tensor] = {}
    single = bool((weights.max(-1).values == 1).all())

    @cache
    def placed(device: torch.device) -> tuple[Tensor, Tensor]:
        """What a site on a device is read with: rows and columns, or weights and where one is not zero."""
        if single:
            return torch.arange(len(weights), device=device)[:, None], weights.argmax(-1).to(device)
        return weights.to(device), (weights > 0).any(1).unsqueeze(-1).to(device)

    def reader(site: Site) -> Callable[[Tensor, Columns | None], None]:
        def read_site(h: Tensor, columns: Columns | None) -> None:
            if columns is None or columns.tokens is not tokens:
                return  # a pass that somebody's hook runs inside this one
            first, second = placed(h.device)
            # Padding may hold anything, and 0 * nan is nan: a mean must not touch it.
            read[site] = (h[first, second] if single
                          else torch.bmm(first, torch.where(second, h.float(), 0.0))).float()
            if len(read) == len(sites):
                raise _Done

        return read_site

    with ExitStack() as hooks, suppress(_Done):
        for site in sites:
            hooks.callback(model.attach(site, reader(site)))
        model.run(tokens.ids, Columns(0, tokens.mask, tokens))
    missing = [str(site) for site in sites if site not in read]
    if missing:
        raise SteeringError(f"the pass never reached {', '.join(missing)}; the model does not run these hooks.")
    found = torch.stack([read[site].to("cpu", non_blocking=False) for site in sites])
    if not torch.isfinite(found).all():
        counts = (~torch.isfinite(found)).flatten(2).any(-1).sum(1)
        first = min((site for site, count in zip(sites, counts.tolist(), strict=True) if count))
        raise SteeringError(f"activations at {first} are not finite in {int(counts[list(sites).index(first)])} of "
                            f"{found.shape[1]} prompts; load the model in float32 or bfloat16.")
    return found


def capture_moments(
    model: LensModel,
    contrast: ContrastSet | AnswerContrast,
    sites: Sequence[Site],
    at: ReadAt | str = "last",
    *,
    template: str | None = None,
    system: str | None = None,
    scatter: bool = False,
    batch_tokens: int | None = None,
    progress: str = "",
    kept: Unfinished | None = None,
) -> ClassMoments:
    """Moments of both classes at every site, from one pass over all prompts.

    Args:
        model: Steered or not.
        contrast: Both classes; they share batches.
        sites: Sites of the model.
        at: Token or span to read; see `ReadAt`.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        scatter: Whether to keep [d_model, d_model] sums a site and class; means need none.
        batch_tokens: Most padded tokens of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.
        kept: What an earlier process read, and where this one keeps what it reads, every few seconds.

    Raises:
        PromptError: when a prompt is empty, too long, or has no token at `at`.
        SteeringError: when an activation is not finite.
        FileError: when what is kept cannot be written or read.
    """
    sites = sorted(sites)
    at = ReadAt.parse(at)
    encoded = encode_contrast(model, contrast, template=template, system=system, at=at)
    key = key_of(kept, model, encoded, len(contrast.positive), sites, at, f"moments {scatter}") if kept else ""
    with Sums(scatter, HELD_VALUES, len(contrast.positive), len(encoded), kept, key) as sums:
        left = [encoded[i] for i in sums.left.tolist()]
        for rows, read in activations(model, left, sites, at, batch_tokens=batch_tokens, progress=progress):
            sums.add(sums.left[rows], read)
    return ClassMoments(tuple(sites), **sums.totals)
