"""(g) The headline: from two prompt files to a steerer at its best angle, against the papers' own procedure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lenssteer.bench.papers import Swept, best_angle
from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.sweep import angles
from lenssteer.bench.timing import ratio
from lenssteer.evals.scoring import scorer_of
from lenssteer.models import Decoding, LensModel
from lenssteer.prompts import ContrastSet, Prompt, read_prompts
from lenssteer.recipe import Calibration, calibrate
from lenssteer.sweeps import sweep_answers
from lenssteer.sweeps.search import Goal, Space, run_search

HEADLINE_TARGET, SEARCH_TARGET = 20.0, 5.0
ASKED, NEW_TOKENS = 40, 20
STEP = 10.0


def headline(stand: Stand) -> Iterator[Found]:
    """Seconds of the papers' procedure over ours, and whether both end at the same angle."""
    case = Case(stand)
    ours: list[tuple[float | None, Calibration]] = []
    theirs: list[Swept] = []
    with TemporaryDirectory() as folder:
        files = case.written(Path(folder))
        found = ratio(lambda: theirs.append(case.papers(files)), lambda: ours.append(case.ours(files)),
                      f"two files of {len(case.contrast.positive)} and {len(case.contrast.negative)} prompts to a "
                      f"steerer at its best angle: batch of one, {len(case.angles)} angles one after another, dense "
                      f"matrices and full answers, over calibrate and search; {case.about}",
                      repeats=max(stand.repeats // 3, 1), warm=0, target=HEADLINE_TARGET, better="higher",
                      clock=stand.clock)
    chosen, fitted = ours[-1]
    means = theirs[-1].seen_in(fitted.plane.basis)
    yield Found({"papers_procedure_over_ours": replace(found, more=agreement(means, chosen, case.step))})


def agreement(means: dict[float, float], chosen: float | None, step: float) -> dict[str, Any]:
    """Both angles, and whether ours is within one step of an angle that the papers' procedure finds best.

    >>> agreement({0.0: 0.5, 350.0: 1.0, 340.0: 1.0}, 0.0, 10.0)["same_angle"]
    True
    """
    top = max(means.values())
    best = [angle for angle, mean in means.items() if mean == top]
    apart = [min(abs(angle - chosen) % 360, -abs(angle - chosen) % 360) for angle in best] if chosen is not None else []
    return {"papers_degrees": best, "our_degrees": chosen, "papers_score": top,
            "score_at_ours": means.get(chosen) if chosen is not None else None,
            "same_angle": bool(apart) and min(apart) <= step + 1e-6}


def search(stand: Stand) -> Iterator[Found]:
    """Seconds of the full grid, stacked and scored, over those of `run_search`; the same prompts and scores."""
    case = Case(stand)
    fitted = calibrate(case.model, case.fitted_on, sites="norm_out")
    grids: list[dict[float, float]] = []
    chosen: list[float | None] = []
    found = ratio(lambda: grids.append(case.grid(fitted)), lambda: chosen.append(case.searched(fitted)),
                  f"all {len(case.angles)} angles on {len(case.asked)} prompts, stacked, over search; {case.about}",
                  repeats=max(stand.repeats // 2, 1), target=SEARCH_TARGET, better="higher", clock=stand.clock)
    yield Found({"grid_over_search": replace(found, more=agreement(grids[-1], chosen[-1], case.step))})


class Case:
    """One question asked of both: the angle at which refused prompts are answered best."""

    def __init__(self, stand: Stand) -> None:
        self.model: LensModel = stand.model(name=stand.organism)
        self.angles = angles(stand)
        self.step = 90.0 if stand.quick else STEP
        self.contrast = stand.organism_prompts
        count = 4 if stand.quick else min(ASKED, len(self.contrast.positive) // 2)
        self.asked: Sequence[Prompt] = self.contrast.positive[-count:]
        self.fitted_on = ContrastSet(self.contrast.positive[:-count], self.contrast.negative[:-count], "fitted on")
        self.decoding = Decoding(8 if stand.quick else NEW_TOKENS)
        self.goal = Goal("on_form" if stand.organism == "demo" and stand.files is None else "answers")
        self.score = scorer_of([self.goal.name], model=self.model)
        self.about = (f"{self.model.card.name}, {count} prompts to choose on, {self.decoding.max_new_tokens} new "
                      f"tokens, score {self.goal.name}")

    def written(self, folder: Path) -> tuple[Path, Path]:
        """Two prompt files."""
        paths = folder / "positive.txt", folder / "negative.txt"
        for path, prompts in zip(paths, (self.contrast.positive, self.contrast.negative), strict=True):
            path.write_text("\n".join(prompts) + "\n", encoding="utf-8")
        return paths

    def ours(self, files: tuple[Path, Path]) -> tuple[float | None, Calibration]:
        """Read, calibrate, search; the steerer is built too."""
        fitted = calibrate(self.model, self._read(files), sites="norm_out")
        degrees = self.searched(fitted)
        if degrees is not None:
            fitted.steerer("selective", degrees=degrees)
        return degrees, fitted

    def papers(self, files: tuple[Path, Path]) -> Swept:
        """Read, and what the papers do."""
        return best_angle(self.model, self._read(files), self.asked, self.angles, self.decoding.max_new_tokens,
                          self._scored)

    def grid(self, fitted: Calibration) -> dict[float, float]:
        """Mean score of every angle, all in one stacked sweep."""
        answers = sweep_answers(self.model, _selective(fitted), self.angles, self.asked, self.decoding)
        return {angle: sum(score or 0.0 for score in self._scored(self.asked, found)) / len(found)
                for angle, found in answers.items()}

    def searched(self, fitted: Calibration) -> float | None:
        """The angle that a search ends at."""
        space = Space("degrees", self.angles, 0.0, 360.0)
        with TemporaryDirectory() as folder:
            return run_search(self.model, _selective(fitted), space, self.asked, folder, goal=self.goal,
                              wanted=self.fitted_on.negative[:4], decoding=self.decoding).amount

    def _read(self, files: tuple[Path, Path]) -> ContrastSet:
        positive, negative = (read_prompts(path)[: -len(self.asked)] for path in files)
        return ContrastSet(tuple(positive), tuple(negative), "fitted on")

    def _scored(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Sequence[float | int | None]:
        return self.score(prompts, answers)[self.goal.name]


def _selective(fitted: Calibration) -> Callable[[Any], Any]:
    return lambda rows: fitted.steerer("selective", degrees=rows)
