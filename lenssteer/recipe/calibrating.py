"""From prompts to a calibration."""

from collections.abc import Sequence
from time import perf_counter

from lenssteer.capture import ReadAt, capture_moments
from lenssteer.directions import RULES
from lenssteer.errors import ParameterError
from lenssteer.models import LensModel
from lenssteer.prompts import ContrastSet
from lenssteer.recipe.calibration import Calibration
from lenssteer.site import Site

SCATTER_LIMIT = 64 * 2**20
"""Scatter matrices are kept by default while they take less than this many bytes."""


def calibrate(
    model: LensModel,
    contrast: ContrastSet,
    *,
    sites: str | Sequence[Site] = "norm_out",
    at: str | ReadAt = "last",
    rule: str = "unit_means",
    template: str | None = None,
    system: str | None = None,
    scatter: bool | None = None,
    progress: str = "",
) -> Calibration:
    """Learn directions, a plane and discriminative sites from a contrast set, in one pass over its prompts.

    Args:
        model: The model to be steered.
        contrast: Positive and negative prompts.
        sites: "norm_out" (the rotation papers' own), a stream such as "resid_post", or a list of sites.
        at: Which token is read; see `ReadAt`.
        rule: How discriminative sites are told; see `directions.discriminative_sites`.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all prompts.
        scatter: Whether to keep second moments, for effect sizes; by default when they take less than 64 MiB.
        progress: Label of a progress bar; "" for none.

    Raises:
        PromptError, SiteError, DirectionError, SteeringError: see the modules that raise them.

    Source: Dang & Ngo 2026, arXiv:2601.19375, section 3.
    """
    if rule not in RULES:
        raise ParameterError(f"unknown rule {rule!r}; expected one of {', '.join(RULES)}.")
    at = ReadAt.parse(at)
    started = perf_counter()
    wanted = model.sites(sites) if isinstance(sites, str) else sorted(sites)
    if scatter is None:
        scatter = 2 * len(wanted) * model.card.d_model**2 * 8 <= SCATTER_LIMIT
    moments = capture_moments(model, contrast, wanted, at, template=template, system=system, scatter=scatter,
                              progress=progress)
    record = {"contrast": contrast.name, "sha256": contrast.sha256, "at": str(at),
              "template": template or model.template, "system": system,
              "prompts": len(contrast.positive) + len(contrast.negative), "seconds": perf_counter() - started}
    return Calibration.fit(moments, model.card, rule, record)
