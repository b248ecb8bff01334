"""Of a low-rank edit the chooser is asked about a few numbers a token; what comes of it is what it says of activations."""

import pytest
import torch

from lenssteer import edits
from lenssteer.maths import random_plane
from lenssteer.prompts import Columns, pad
from lenssteer.prompts.tokens import Encoded
from lenssteer.site import Site
from lenssteer.steering import Condition, Schedule, Where
from lenssteer.steering.chooser import Chooser
from lenssteer.steering.gatekeeper import Gatekeeper
from lenssteer.steering.hooks import SiteEditor
from lenssteer.steering.receipts import Meter

SITE, WIDTH = Site(0, "resid_post"), 8
BASIS = random_plane(WIDTH, 7)
TOKENS = pad([Encoded(tuple(range(6)), (1, 2), 4), Encoded(tuple(range(4)), (0, 1), 3)])
WHOLE = Columns(0, TOKENS.mask, TOKENS)
EDITS = {
    "turn": edits.rotate_by(BASIS, degrees=70), "adaptive": edits.rotate_to(BASIS, degrees=70, adaptive=True),
    "add": edits.add(BASIS[0], 2.0), "angle": edits.set_angle(BASIS[0], degrees=70),
    "mirror": edits.steer_to_mirror(BASIS[1], boundary=0.1),
    "rows": edits.rotate_by(BASIS, degrees=torch.tensor([70.0, 200.0])),
}


def choosers():
    """One of every kind: tokens, a schedule, a gate on prompts, a gate on tokens, all together."""
    def keeper(scope):
        found = Gatekeeper(Condition(SITE, BASIS[1], 0.2, similarity="projection", pool="last", scope=scope))
        found.readers[0](activations(torch.float64), WHOLE)
        return found

    return {"padding": Chooser(Where()), "prompt": Chooser(Where("prompt")),
            "schedule": Chooser(Where(), schedule=Schedule("linear", 3, 1.5, -0.5)),
            "rows": Chooser(Where(), keeper("prompt")), "tokens": Chooser(Where(), keeper("token")),
            "together": Chooser(Where("generated"), keeper("prompt"), Schedule("constant", 0, 0.5))}


def activations(dtype):
    h = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.where(TOKENS.mask.unsqueeze(-1), h, torch.nan).to(dtype)


@pytest.mark.parametrize("kind", ["padding", "prompt", "schedule", "rows", "tokens", "together"])
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_admitted_updates_are_admitted_activations(kind, name, dtype):
    chooser, h, meter = choosers()[kind], activations(dtype), Meter()
    found = SiteEditor(EDITS[name], chooser, meter)(h, WHOLE)
    expected = chooser.admit(h, EDITS[name](h))
    atol = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(found, expected, atol=atol, rtol=atol, equal_nan=True)
    chosen = chooser.chosen.unsqueeze(-1)
    assert torch.equal(torch.where(chosen, 0, found).nan_to_num(7), torch.where(chosen, 0, h).nan_to_num(7))
    assert meter.read().non_finite == 0


def test_a_step_in_which_every_token_is_chosen_asks_nobody(monkeypatch):
    step = Columns(6, torch.cat([TOKENS.mask, torch.ones(2, 1, dtype=torch.bool)], 1), TOKENS)
    chooser, h = Chooser(Where()), torch.randn(2, 1, WIDTH)
    monkeypatch.setattr(chooser, "admit", lambda *_: pytest.fail("asked"))
    assert torch.equal(SiteEditor(EDITS["turn"], chooser, Meter())(h, step), EDITS["turn"](h))
