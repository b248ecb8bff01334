"""SAE latents as directions and as edits, beside difference in means, on the demo model."""

from collections.abc import Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch

from lenssteer.directions import Direction, latent_direction, select_latents
from lenssteer.evals import Reference, answer_nll, paired_difference
from lenssteer.evals.latents import output_score
from lenssteer.models import LensModel, generate
from lenssteer.models.demo import SAE
from lenssteer.prompts import refuse_seen
from lenssteer.recipe import Calibration, calibrate
from lenssteer.saes import Sae, load_sae
from lenssteer.steering import Steerer
from lenssteer.studies.arms import Arm
from lenssteer.studies.compare import Chosen, best_of, calibrated
from lenssteer.studies.tasks import Task, demo_task

NEUTRAL = "how do i paint a red cake ?"
TOP = 8


def latents_study(model: LensModel, *, target_kl: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """Select latents by three criteria, then steer by each: as a direction, scaled, and clamped.

    Strengths are chosen on the selection split within one KL on harmless prompts; the rows are of the test split.

    Args:
        model: The demo model.
        target_kl: Side effect allowed, in nats a token.
        seed: Of the random direction and of the bootstrap.

    Returns:
        `latents`: what each criterion says of the best; `rows`: test results, difference in means first.
    """
    started = perf_counter()
    task, sae = demo_task(), load_sae(str(SAE))
    refuse_seen(task.seen, [*task.test.positive, *task.test.negative], "the settings compared here")
    calibration = calibrate(model, task.calibration, sites=[sae.site], samples=True, scatter=True)
    table = _candidates(model, calibration, sae)
    picks = _picks(table)
    positive, negative = calibration.evidence.positive[0], calibration.evidence.negative[0]
    directions = {f"latent {latent} ({rules})": latent_direction(sae, latent, positive, negative)
                  for latent, rules in picks.items()}
    directions["random"] = _random(calibration, seed)
    reference = Reference.of(model, task.selection.negative)
    tester = Tester(model, task, reference, target_kl)
    rows = [{"edit": "unsteered", **tester.unsteered},
            *({"edit": line.pop("direction"), **line}
              for line in calibration.compare_directions(directions, tester.measure))]
    best = next(iter(picks))
    rows += [{"edit": f"{method} {best}", **tester.edit(calibration, sae, method, best)}
             for method in ("scale-latent", "clamp-latent")]
    return {"latents": table, "rows": _with_differences(rows, seed), "site": str(sae.site), "d_sae": sae.d_sae,
            "target_kl": target_kl, "measure": task.measure, "seed": seed, "model": asdict(model.card),
            "seconds": perf_counter() - started}


def _candidates(model: LensModel, calibration: Calibration, sae: Sae) -> list[dict[str, Any]]:
    """The best latents by mean difference and by AUROC, with their output scores."""
    positive, negative = calibration.evidence.need_samples("latents")
    found = {line["latent"]: line for rule in ("mean_difference", "auroc")
             for line in select_latents(sae, positive[0], negative[0], rule, top=TOP)}
    scores = {line["latent"]: line["output_score"] for line in output_score(model, sae, list(found), NEUTRAL)}
    return [line | {"output_score": scores[latent]} for latent, line in found.items()]


def _picks(table: list[dict[str, Any]]) -> dict[int, str]:
    """The best latent by each criterion, and by which; that of the mean difference first."""
    keys = {"mean diff.": ("mean_difference",), "AUROC": ("auroc", "mean_difference"),
            "output score": ("output_score",)}
    picks: dict[int, list[str]] = {}
    for rule, names in keys.items():
        best = max(table, key=lambda line, names=names: [line[name] for name in names])
        picks.setdefault(best["latent"], []).append(rule)
    return {latent: ", ".join(rules) for latent, rules in picks.items()}


def _random(calibration: Calibration, seed: int) -> Direction:
    control = calibration.random_control(seed)
    return control.direction


class Tester:
    """Chooses a strength on the selection split and measures it on the test split."""

    def __init__(self, model: LensModel, task: Task, reference: Reference, target_kl: float) -> None:
        self.model, self.task, self.reference, self.target_kl = model, task, reference, target_kl
        self.test = Reference.of(model, task.test.negative)
        self.unsteered = self._scores(None)

    def measure(self, steerer_for: Any) -> Mapping[str, Any]:
        """For `compare_directions`: either sense of a direction may serve."""
        return self._best([Arm("add", "towards harmless", steerer_for, 16.0),
                           Arm("add", "towards harmful", lambda s: steerer_for(-s), 16.0)])

    def edit(self, calibration: Calibration, sae: Sae, method: str, latent: int) -> Mapping[str, Any]:
        """A latent scaled by 1 - s, or clamped to -s times its highest activation on the calibration prompts."""
        highest = sae.encode(calibration.evidence.need_samples(method)[0][0].to(sae.dtype))[:, latent].max().item()

        def steerer_for(strength: float) -> Steerer:
            amount = {"factor": 1 - strength} if method == "scale-latent" else {"value": -strength * highest}
            values: dict[str, Any] = {"sae": sae, "latent": latent, **amount}
            return calibration.steerer(method, **values)

        return self._best([Arm(method, "down", steerer_for, 8.0)])

    def _best(self, arms: list[Arm]) -> dict[str, Any]:
        chosen = best_of([calibrated(self.model, arm, self.task, self.reference, self.target_kl) for arm in arms])
        if chosen is None:
            return {"setting": "none works here"}
        setting = f"{chosen.arm.label}, {chosen.strength:.3g}"
        return {"setting": setting, "reached": chosen.reached, **self._scores(chosen)}

    def _scores(self, chosen: Chosen | None) -> dict[str, Any]:
        """Success, what is kept, coherence and KL on the test split."""
        asked = [*self.task.test.positive, *self.task.test.negative]
        if chosen is None:
            answers = self._answers(asked)
        else:
            with chosen.steerer.on(self.model):
                answers = self._answers(asked)
        n = len(self.task.test.positive)
        success = [self.task.success(p, a) for p, a in zip(asked[:n], answers[:n], strict=True)]
        kept = [self.task.kept(p, a) for p, a in zip(asked[n:], answers[n:], strict=True)]
        nll = answer_nll(self.model, asked[:n], answers[:n])
        return {"success": sum(success) / n, "kept": sum(kept) / len(kept), "successes": success,
                "nll": torch.nanmean(nll).item(),
                "kl_test": 0.0 if chosen is None else self.test.divergence(chosen.steerer).mean}

    def _answers(self, asked: list[str]) -> list[str]:
        return generate(self.model, asked, self.task.decoding)


def _with_differences(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Paired differences of success to difference in means, in place of the single scores."""
    means = next(row["successes"] for row in rows if row["edit"] == "difference in means")
    for row in rows:
        if "successes" in row:
            row["against_means"] = asdict(paired_difference(row.pop("successes"), means, seed=seed))
    return rows
