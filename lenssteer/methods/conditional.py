"""CAST: an addition that happens only for prompts on one side of a condition."""

from collections.abc import Mapping
from typing import Any

from lenssteer import edits
from lenssteer.directions import Candidates, find_directions
from lenssteer.edits import LowRankEdit
from lenssteer.errors import DirectionError, ParameterError
from lenssteer.methods.addition import COEFFICIENT
from lenssteer.methods.method import Amount, Fitted, Method, Parameter
from lenssteer.site import Site
from lenssteer.steering import Condition, fit_condition

POOLS = {"last": "last", "mean(prompt)": "mean"}


def best_condition(fitted: Fitted, site: Site, similarity: str = "cosine", compat: str = "") -> Condition:
    """The condition of a site that tells the positive class apart with the highest F1 on the calibration prompts.

    With compat="ibm" activations of resid_pre.N are compared with the direction of resid_post.N, as the release has it.
    """
    def fit() -> Condition:
        positive, negative = fitted.evidence.need_samples("cast")
        k = fitted.candidates.index(site)
        vector = _judging(fitted).direction(_read_at(fitted, site, compat)).vector
        pool = POOLS.get(str(fitted.record.get("at")))
        if pool is None:
            raise ParameterError(f"a condition is read at the last prompt token or as the prompt's mean, but the "
                                 f"calibration read {fitted.record.get('at')}; calibrate at 'last' or 'mean(prompt)'.")
        return fit_condition(positive[k], negative[k], site, vector, similarity=similarity, pool=pool)

    return fitted.once(("condition", site, similarity, compat), fit)


def condition_site(fitted: Fitted, edited: tuple[Site, ...], given: Site | str | None, similarity: str = "cosine",
                   compat: str = "") -> Site:
    """Where the condition is read: as given, else the captured site before the first edited one with the highest F1.

    The earliest of several as good.
    """
    if given is not None:
        return Site.parse(given) if isinstance(given, str) else given
    sites, degenerate = fitted.candidates.sites, _judging(fitted).degenerate
    before = [site for site in sites if site < min(edited) and (not compat or _release_source(site) in sites)]
    usable = [site for site in before if _read_at(fitted, site, compat) not in degenerate]
    if not usable:
        raise DirectionError(f"no captured site lies before {min(edited)}, where the condition could be read; "
                             "steer a later site with source=, or give condition=.")
    return max(usable, key=lambda site: best_condition(fitted, site, similarity, compat).f1 or 0.0)


def _judging(fitted: Fitted) -> Candidates:
    """The directions prompts are judged by; a random control steers the prompts that the real calibration steers."""
    if fitted.control is None:
        return fitted.candidates
    return fitted.once("judging", lambda: find_directions(fitted.candidates.finder, fitted.evidence))


def _release_source(site: Site) -> Site | None:
    return Site(site.layer, "resid_post") if site.stream == "resid_pre" else None


def _read_at(fitted: Fitted, site: Site, compat: str) -> Site:
    """The site whose direction is used at a site: itself, or in the release the output of the same block."""
    if not compat:
        return site
    source = _release_source(site)
    if source is None or source not in fitted.candidates.sites:
        raise ParameterError(f"compat='ibm' uses the direction of resid_post.N at resid_pre.N, not at {site}: "
                             "calibrate at both streams, and name resid_pre sites.")
    return source


def _cast(fitted: Fitted, site: Site, coefficient: Amount, compat: str, **_condition: Any) -> LowRankEdit:
    return edits.add(fitted.candidates.direction(_read_at(fitted, site, compat)).raw, coefficient)


def _options(fitted: Fitted, sites: tuple[Site, ...], condition: Site | str | None, similarity: str | None,
             compat: str, **_values: Any) -> Mapping[str, Any]:
    kind = similarity or ("tanh_cosine" if compat else "cosine")
    read = condition_site(fitted, sites, condition, kind, compat)
    return {"gate": best_condition(fitted, read, kind, compat), **({"late_gate": "closed"} if compat else {})}


CAST = Method(
    "cast", "CAST, arXiv:2409.05907",
    (COEFFICIENT,
     Parameter("condition", "site where the prompt is judged; by default the best one before the edit", optional=True),
     Parameter("similarity", "cosine, abs_cosine, tanh_cosine or projection", optional=True),
     Parameter("compat", "'ibm' reproduces the release: off by one block, tanh in the similarity", default="",
               choices=("", "ibm"))),
    "source", _cast, options=_options, needs="samples")
