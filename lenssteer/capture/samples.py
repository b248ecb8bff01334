"""Samples of both classes in memory, for what moments do not determine: logistic probes, medians, paired components."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.artefacts.unfinished import Unfinished
from lenssteer.capture.capture import ClassMoments, activations
from lenssteer.capture.encoding import encode_contrast
from lenssteer.capture.positions import ReadAt
from lenssteer.capture.resuming import Samples, key_of
from lenssteer.maths import Moments
from lenssteer.models import LensModel
from lenssteer.prompts import AnswerContrast, ContrastSet
from lenssteer.site import Site


@dataclass(frozen=True, eq=False)
class ClassSamples:
    """One activation a prompt and site, in the order of the prompts.

    Args:
        sites: In network order; the leading axis of both.
        positive: Of the positive prompts.
        negative: Of the negative prompts.
    """

    sites: tuple[Site, ...]
    positive: Float[Tensor, "sites n d_model"]
    negative: Float[Tensor, "sites m d_model"]

    def moments(self, *, scatter: bool = True) -> ClassMoments:
        """The moments of the same samples, as `capture_moments` streams them."""
        unit = [side / side.norm(dim=-1, keepdim=True).clamp_min(1e-30) for side in (self.positive, self.negative)]
        return ClassMoments(self.sites, *(Moments.of(side, scatter=scatter) for side in (self.positive, self.negative)),
                            *(Moments.of(side, scatter=False) for side in unit))


def capture_samples(
    model: LensModel,
    contrast: ContrastSet | AnswerContrast,
    sites: Sequence[Site],
    at: ReadAt | str = "last",
    *,
    template: str | None = None,
    system: str | None = None,
    progress: str = "",
    kept: Unfinished | None = None,
) -> ClassSamples:
    """Activations of both classes at every site, from one pass over all prompts; 4 n d_model bytes a site.

    Args:
        model: Steered or not.
        contrast: Prompts, or exchanges; both classes share batches.
        sites: Sites of the model.
        at: Token or span to read; see `ReadAt`.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        progress: Label of a progress bar; "" for none.
        kept: What an earlier process read, and where this one keeps what it reads, every few seconds.

    Raises:
        PromptError: when a prompt is empty, too long, or has no token at `at`.
        SteeringError: when an activation is not finite.
        FileError: when what is kept cannot be written or read.
    """
    sites, at = tuple(sorted(sites)), ReadAt.parse(at)
    encoded = encode_contrast(model, contrast, template=template, system=system, at=at)
    read = torch.empty(len(sites), len(encoded), model.card.d_model)
    key = key_of(kept, model, encoded, len(contrast.positive), sites, at, "samples") if kept else ""
    with Samples(kept, key, len(encoded)) as done:
        for rows, batch in done.earlier:
            read[:, rows] = batch
        left = [encoded[i] for i in done.left.tolist()]
        for places, batch in activations(model, left, sites, at, progress=progress):
            read[:, done.left[places]] = batch
            done.add(done.left[places], batch)
    n = len(contrast.positive)
    return ClassSamples(sites, read[:, :n], read[:, n:])
