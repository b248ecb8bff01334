"""(c) Thirty-six angles on eight prompts: one stacked run against one run an angle."""

from collections.abc import Iterator

from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import Ratio, ratio
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.recipe import Calibration, calibrate
from lenssteer.sweeps import sweep_answers

TARGET = 3.0
PROMPTS, NEW_TOKENS = 8, 20


def angles(stand: Stand) -> tuple[float, ...]:
    """Every tenth degree; of a quick run every ninetieth."""
    return tuple(float(angle) for angle in range(0, 360, 90 if stand.quick else 10))


def sweep(stand: Stand) -> Iterator[Found]:
    """Seconds of the loop over seconds of the stacked sweep, on the model and on the organism."""
    asked = stand.prompts[: 2 if stand.quick else PROMPTS]
    sites = ",".join(map(str, stand.sites))
    yield Found({"sweep_loop_over_stacked": _compared(stand, stand.model(), stand.calibration, asked, sites)})
    organism = stand.model(name=stand.organism)
    contrast = stand.organism_prompts
    fitted = calibrate(organism, contrast, sites="norm_out")
    yield Found({"sweep_loop_over_stacked/organism": _compared(
        stand, organism, fitted, list(contrast.positive[-len(asked):]), "discriminative")})


def _compared(stand: Stand, model: LensModel, fitted: Calibration, asked: list[str], sites: str) -> Ratio:
    settings, drawn = angles(stand), Decoding(4 if stand.quick else NEW_TOKENS)
    chosen = sites.split(",") if "." in sites else sites

    def loop() -> None:
        for degrees in settings:
            with fitted.steerer("selective", degrees=degrees, sites=chosen).on(model):
                generate(model, asked, drawn)

    def stacked() -> None:
        sweep_answers(model, lambda rows: fitted.steerer("selective", degrees=rows, sites=chosen), settings, asked,
                      drawn)

    return ratio(loop, stacked, f"{len(settings)} angles on {len(asked)} prompts one by one over stacked, "
                 f"{drawn.max_new_tokens} new tokens, {model.card.name}", repeats=max(stand.repeats // 2, 1),
                 target=TARGET, better="higher", clock=stand.clock)
