"""Results of the demo model that are kept in Git. After a change that is meant to move them, write them anew and read the diff:

    python -m tests.golden.demo

Numbers may move by 5e-5 of their size, at least of 1: fifteen times what was seen. Against plain transformers in float32 on one
thread, float64 differs by 3.2e-6, TransformerLens' backends, which order the same sums differently, by 1.7e-6, two threads by 2.6e-7.
Answers are greedy, and must not move at all. The KL divergences are small and stand in hundredths of a nat, so that one per
cent of them is seen.
"""

import json
from pathlib import Path

GOLDEN = Path(__file__).parent / "demo.json"
TOLERANCE = 5e-5
SETTINGS = (("selective", {"degrees": 200}), ("adaptive-angular", {"degrees": 60}), ("ablation", {}))


def measured(model, calibration):
    """What the calibration found, what three methods do to answers, and what they cost on harmless prompts."""
    from lenssteer.evals import answer_nll, next_token_divergence
    from lenssteer.models import Decoding, generate
    from lenssteer.models.demo.world import requests

    harmful, harmless = ([p.text for p in requests("selection", kind)[:6]] for kind in ("harmful", "harmless"))
    found = {"direction": str(calibration.direction.site), "discriminative": [str(site) for site in calibration.discriminative],
             "sites": calibration.table(), "unsteered": generate(model, harmful, Decoding(16))}
    for method, settings in SETTINGS:
        steerer = calibration.steerer(method, **settings)
        with steerer.on(model):
            answers = generate(model, harmful, Decoding(16))
        found[method] = {"answers": answers, "nll": [float(one) for one in answer_nll(model, harmful, answers)],
                         "centinats": 100 * float(next_token_divergence(model, steerer, harmless).mean)}
    return found


if __name__ == "__main__":
    import lenssteer as ls
    from lenssteer.studies.demo import demo_contrast

    demo = ls.load_model("demo", backend="hf")
    GOLDEN.write_text(json.dumps(measured(demo, ls.calibrate(demo, demo_contrast(), sites="norm_out")), indent=1) + "\n")
