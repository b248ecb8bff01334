"""From prompts to a calibration."""

from collections.abc import Callable, Sequence
from time import perf_counter

from lenssteer.artefacts.unfinished import Unfinished
from lenssteer.capture import ClassMoments, ClassSamples, ReadAt, capture_moments, capture_samples
from lenssteer.directions import FINDERS, PLANES, RULES, require_finder
from lenssteer.errors import ParameterError
from lenssteer.models import LensModel
from lenssteer.nearest import unknown
from lenssteer.prompts import AnswerContrast, ContrastSet, hashes
from lenssteer.prompts.identity import reading_of
from lenssteer.recipe.calibration import Calibration
from lenssteer.site import Site

Readers = tuple[Callable[..., ClassSamples], Callable[..., ClassMoments]]
KEPT_BYTES = 64 * 2**20
"""Scatter matrices and samples are each kept by default while they take less than this many bytes."""


def calibrate(
    model: LensModel,
    contrast: ContrastSet | AnswerContrast,
    *,
    sites: str | Sequence[Site] = "norm_out",
    at: str | ReadAt = "last",
    rule: str = "unit_means",
    template: str | None = None,
    system: str | None = None,
    scatter: bool | None = None,
    samples: bool | None = None,
    finder: str = "mean_difference",
    plane: str = "pca",
    progress: str = "",
    readers: Readers = (capture_samples, capture_moments),
    kept: Unfinished | None = None,
) -> Calibration:
    """Learn directions, a plane and discriminative sites from a contrast set, in one pass over its prompts.

    Args:
        model: The model to be steered.
        contrast: Positive and negative prompts, or exchanges whose answers are read.
        sites: "norm_out" (the rotation papers' own), a stream such as "resid_post", or a list of sites.
        at: Which token is read; see `ReadAt`.
        rule: How discriminative sites are told; see `directions.discriminative_sites`.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all prompts.
        scatter: Whether to keep second moments, for effect sizes, Fisher directions and AlphaSteer; by default when
            they take less than 64 MiB.
        samples: Whether to keep the activations themselves, for logistic probes, conditions and robust means; by
            default when they take less than 64 MiB.
        finder: How directions are found; see `directions.FINDERS`.
        plane: What plane rotations turn in; see `directions.PLANES`.
        progress: Label of a progress bar; "" for none.
        readers: What reads samples, and what reads moments; `lenssteer.cluster` has those of a cluster.
        kept: What an earlier process read, and where this one keeps what it reads; see `unfinished`.

    Raises:
        PromptError, SiteError, DirectionError, SteeringError, FileError: see the modules that raise them.

    Source: Dang & Ngo 2026, arXiv:2601.19375, section 3.
    """
    if rule not in RULES:
        raise ParameterError(unknown("rule", rule, RULES))
    require_finder(finder, plane)
    at = ReadAt.parse(at)
    started = perf_counter()
    wanted = model.sites(sites) if isinstance(sites, str) else sorted(sites)
    count = len(contrast.positive) + len(contrast.negative)
    needs = {FINDERS[finder].needs, PLANES[plane].needs}
    if scatter is None:
        scatter = "scatter" in needs or 2 * len(wanted) * model.card.d_model**2 * 8 <= KEPT_BYTES
    if samples is None:
        samples = "samples" in needs or count * len(wanted) * model.card.d_model * 4 <= KEPT_BYTES
    reading = {"template": template, "system": system, "progress": progress, **({"kept": kept} if kept else {})}
    read_samples, read_moments = readers
    held = read_samples(model, contrast, wanted, at, **reading) if samples else None
    moments = held.moments(scatter=scatter) if held else read_moments(model, contrast, wanted, at, scatter=scatter,
                                                                      **reading)
    record = {"contrast": contrast.name, "sha256": contrast.sha256, "at": str(at),
              "template": template or model.template, "system": system, "prompts": count, "seen": _seen(contrast),
              **reading_of(model.tokenizer, template or model.template), "seconds": perf_counter() - started}
    return Calibration.fit(moments, model.card, rule, record, samples=held, finder=finder, plane=plane)


def _seen(contrast: ContrastSet | AnswerContrast) -> list[str]:
    """Hashes of every prompt of a contrast."""
    both = [*contrast.positive, *contrast.negative]
    return hashes([entry if isinstance(entry, str) else entry.prompt for entry in both])
