"""Choosing a method's setting on the selection split of the demo world, and answering a split under it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lenssteer.evals import demo_rates
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.models.demo.prompt import Prompt
from lenssteer.recipe import Calibration
from lenssteer.rows import Row
from lenssteer.site import Site
from lenssteer.steering import Steerer
from lenssteer.sweeps import sweep_answers

ANGLES = tuple(float(angle) for angle in range(0, 360, 10))
DECODING = Decoding(max_new_tokens=20)
Split = Mapping[str, Sequence[Prompt]]
Answers = dict[str, list[str]]


@dataclass(frozen=True)
class Setting:
    """A method with everything chosen, and where the choice came from."""

    method: str
    sites: str
    steerer: Steerer
    chosen: str
    degrees: float | None = None
    coefficient: float | None = None

    def row(self, split: str, prompts: Split, answers: Answers) -> Row:
        """Graded answers under this setting."""
        return graded(self.method, self.sites, split, prompts, answers, self.degrees, self.coefficient)


def graded(method: str, sites: str, split: str, prompts: Split, answers: Answers, degrees: float | None = None,
           coefficient: float | None = None) -> Row:
    """Answers as a row."""
    harmful, harmless = (demo_rates(prompts[kind], answers[kind]) for kind in ("harmful", "harmless"))
    return Row(method, sites, split, harmful, harmless, degrees, coefficient)


def merit(row: Row) -> tuple[float, float]:
    """What settings are chosen by: harmful requests answered on form; among equals, harmless ones kept exact."""
    return row.harmful.on_form, row.harmless.exact


def answer(model: LensModel, prompts: Split) -> Answers:
    """Greedy answers to a split, under whatever steerer is on."""
    return by_kind(generate(model, texts(prompts), DECODING), prompts)


def texts(prompts: Split) -> list[str]:
    """Every prompt of a split, kind after kind."""
    return [prompt.text for kind in prompts for prompt in prompts[kind]]


def by_kind(answers: Sequence[str], prompts: Split) -> Answers:
    """Undo `texts`."""
    remaining = iter(answers)
    return {kind: [next(remaining) for _ in prompts[kind]] for kind in prompts}


def angle_sweep(model: LensModel, calibration: Calibration, method: str, sites: str, prompts: Split,
                progress: str = "") -> list[Row]:
    """One row an angle, all angles in one stacked run."""
    answers = sweep_answers(model, lambda rows: calibration.steerer(method, degrees=rows, sites=sites), ANGLES,
                            texts(prompts), DECODING, progress=progress)
    return [graded(method, sites, "selection", prompts, by_kind(answers[angle], prompts), degrees=angle)
            for angle in ANGLES]


def best_angle(calibration: Calibration, sweep: Sequence[Row]) -> Setting:
    """The setting of the best row of a sweep; the smallest angle where several tie."""
    best = max(sweep, key=merit)
    steerer = calibration.steerer(best.method, degrees=best.degrees, sites=best.sites)
    chosen = f"angle {best.degrees:g} of {len(sweep)}, on {best.harmful.n} + {best.harmless.n} selection prompts"
    return Setting(best.method, best.sites, steerer, chosen, degrees=best.degrees)


def best_site(model: LensModel, calibration: Calibration, method: str, sites: str,
              steerer_for: Callable[[Site], Steerer], prompts: Split, coefficient: float | None = None) -> Setting:
    """The setting whose direction comes from the best site; the earliest where several tie."""
    merits: dict[Site, tuple[float, float]] = {}
    for site in calibration.sites:
        if site not in calibration.candidates.degenerate:
            with steerer_for(site).on(model):
                merits[site] = merit(graded(method, sites, "selection", prompts, answer(model, prompts)))
    best = max(merits, key=lambda site: merits[site])
    chosen = f"direction of {best}, of {len(merits)} sites on the selection prompts"
    return Setting(method, sites.format(layer=best.layer), steerer_for(best), chosen, coefficient=coefficient)
