"""AlphaSteer: a learned map that is nearly silent on benign activations."""

from collections.abc import Mapping
from typing import Any

from lenssteer import edits
from lenssteer.directions import AlphaMap, fit_alphasteer
from lenssteer.edits import LowRankEdit
from lenssteer.errors import DirectionError
from lenssteer.methods.method import Amount, Fitted, Method, Parameter
from lenssteer.site import Site


def alpha_map(fitted: Fitted, site: Site, *, ratio: float | None = None, energy: float | None = None,
              tolerance: float | None = None, ridge: float = 10.0, compat: str = "") -> AlphaMap:
    """The reader and writer of a site; the positive class of the calibration is the malicious one.

    With compat="alphasteer" the writer is the difference in means one block later than the hook, as the release has it.
    """
    def fit() -> AlphaMap:
        positive, negative = fitted.evidence.spread_at("alphasteer", fitted.candidates.index(site))
        source = _one_block_later(fitted, site) if compat else site
        writer = fitted.candidates.difference[fitted.candidates.index(source)]
        rule = {"ratio": ratio, "energy": energy, "tolerance": tolerance}
        return fit_alphasteer(negative, positive, writer, site, ridge=ridge,
                              **{name: value for name, value in rule.items() if value is not None})

    return fitted.once(("alphasteer", site, ratio, energy, tolerance, ridge, compat), fit)


def _one_block_later(fitted: Fitted, site: Site) -> Site:
    later = Site(site.layer + 1, site.stream)
    if site.stream != "resid_pre" or later not in fitted.candidates.sites:
        raise DirectionError(f"compat='alphasteer' reads the refusal vector one block after {site}; calibrate at "
                             "sites='resid_pre' and steer blocks before the last.")
    return later


def _build(fitted: Fitted, site: Site, strength: Amount, **fit: Any) -> LowRankEdit:
    found = alpha_map(fitted, site, **fit)
    return edits.alphasteer(found.reader, found.writer, strength=strength)


def _options(fitted: Fitted, sites: tuple[Site, ...], strength: Amount, compat: str, **fit: Any) -> Mapping[str, Any]:
    """How the release applies it, and for the record what the map reads of both classes: (mean, spread) a site."""
    read = {}
    for site in sites:
        found = alpha_map(fitted, site, compat=compat, **fit)
        positive, negative = fitted.evidence.spread_at("alphasteer", fitted.candidates.index(site))
        read[str(site)] = {"negative": found.coordinates(negative), "positive": found.coordinates(positive)}
    release = {"where": "prompt", "shared_from": "last_prompt"} if compat else {}
    return {**release, "provenance": {"coordinates": read}}


ALPHASTEER = Method(
    "alphasteer", "AlphaSteer, arXiv:2506.07022",
    (Parameter("strength", "positive steers towards the positive class (refusal)", default=0.4, amount=True,
               neutral=0.0),
     Parameter("ratio", "share of directions that count as null space of the negative (benign) class; 0.6 where no "
               "rule is given", optional=True, number=True),
     Parameter("energy", "in place of ratio: largest share of benign energy in the null space", optional=True,
               number=True),
     Parameter("tolerance", "in place of ratio: singular values below this share of the largest", optional=True,
               number=True),
     Parameter("ridge", "weight of the map's size in its fit", default=10.0, number=True),
     Parameter("compat", "'alphasteer' reproduces the release: writer one block late, prompt pass only, the last "
               "token's coordinate at every prompt token", default="", choices=("", "alphasteer"))),
    "usable", _build, options=_options, needs="scatter")
