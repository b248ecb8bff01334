import math

import numpy as np
import pytest
import torch

from lenssteer.errors import SteeringError
from lenssteer.site import Site
from lenssteer.steering.receipts import Meter, Receipt

SITE = Site(0, "resid_post")


def measured(before, after, selected=None):
    meter = Meter()
    tokens = before[..., 0].numel()
    meter.add(tokens, tokens if selected is None else selected, before, after)
    return meter.read()


def test_displacement_angle_and_norm_ratio_equal_numpy():
    before, after = torch.randn(2, 3, 8), torch.randn(2, 3, 8) * 2
    receipt = measured(before, after)
    a, b = before.double().numpy().reshape(-1, 8), after.double().numpy().reshape(-1, 8)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert receipt.edited == receipt.seen == 6
    assert math.isclose(receipt.mean_displacement, np.linalg.norm(a - b, axis=1).mean(), rel_tol=1e-5)
    assert math.isclose(receipt.mean_degrees, np.degrees(np.arccos(cosine)).mean(), rel_tol=1e-5)
    assert math.isclose(receipt.norm_ratio, (np.linalg.norm(b, axis=1) / np.linalg.norm(a, axis=1)).mean(), rel_tol=1e-5)


def test_small_angles_are_not_lost_to_rounding():
    before = torch.tensor([[[1.0, 0.0]]])
    after = torch.tensor([[[math.cos(1e-5), math.sin(1e-5)]]])
    assert math.isclose(measured(before, after).mean_degrees, math.degrees(1e-5), rel_tol=1e-3)


def test_tokens_that_did_not_change_are_skipped():
    before = torch.randn(1, 4, 8)
    after = before.clone()
    after[0, 2] *= 3
    receipt = measured(before, after)
    assert (receipt.edited, receipt.skipped) == (1, 3)
    assert math.isclose(receipt.norm_ratio, 3, rel_tol=1e-5)


def test_sums_run_over_passes():
    meter = Meter()
    h = torch.ones(1, 2, 4)
    meter.add(2, 2, h, 2 * h)
    meter.add(2, 0, h, h)
    meter.add(2, 1, h, torch.cat([h[:, :1], 4 * h[:, 1:]], 1))
    receipt = meter.read()
    assert (receipt.passes, receipt.seen, receipt.selected, receipt.edited) == (3, 6, 3, 3)
    assert math.isclose(receipt.norm_ratio, (2 + 2 + 4) / 3, rel_tol=1e-6)


def test_values_that_are_not_finite_are_counted_and_refused():
    before = torch.ones(1, 2, 4)
    after = before * torch.tensor([1.0, float("inf")]).reshape(1, 2, 1)
    receipt = Receipt("all", {SITE: Meter()})
    receipt.meters[SITE].add(2, 2, before, after)
    assert receipt.sites[SITE].non_finite == 1
    assert receipt.sites[SITE].mean_displacement == 0.0
    with pytest.raises(SteeringError, match=r"non-finite at resid_post\.0"):
        receipt.require_fired()


def test_an_edit_that_was_never_offered_a_token_is_an_error():
    receipt = Receipt("generated", {SITE: Meter()})
    with pytest.raises(SteeringError, match="ran no pass"):
        receipt.require_fired()
    receipt.meters[SITE].add(5, 0, torch.ones(1, 5, 4), torch.ones(1, 5, 4))
    with pytest.raises(SteeringError, match="chose no token in 1 passes"):
        receipt.require_fired()


def test_a_gate_that_stays_closed_is_no_error():
    receipt = Receipt("all", {SITE: Meter()})
    receipt.meters[SITE].add(5, 5, torch.ones(1, 5, 4), torch.ones(1, 5, 4))
    receipt.require_fired()
    assert receipt.edited == 0
    assert receipt.as_dict()["sites"]["resid_post.0"]["selected"] == 5


def angles(vectors, line):
    return np.degrees(np.arccos(vectors @ line / np.linalg.norm(vectors, axis=1) / np.linalg.norm(line)))


def test_angles_to_the_direction_equal_numpy():
    """Over edited tokens only; a row's own direction, and rows that write nothing count no angle."""
    before, after = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    after[0, 1] = before[0, 1]
    lines = torch.randn(3, 1, 8)
    lines[2] = 0
    unit = lines / lines.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    meter = Meter()
    meter.add(12, 12, before, after, unit)
    receipt = meter.read()
    for got, tensor in ((receipt.direction_degrees_before, before), (receipt.direction_degrees_after, after)):
        h = tensor.double().numpy()
        expected = [*angles(np.delete(h[0], 1, 0), lines[0, 0].numpy()), *angles(h[1], lines[1, 0].numpy())]
        assert got == pytest.approx(np.mean(expected), rel=1e-4)
    assert receipt.edited == 11


def test_no_direction_means_no_angle():
    h = torch.randn(1, 2, 4)
    for direction in (None, torch.zeros(1, 1, 4)):
        meter = Meter()
        meter.add(2, 2, h, 2 * h, direction)
        assert meter.read().direction_degrees_before is meter.read().direction_degrees_after is None
    assert measured(h, 2 * h).share == 1.0
    assert Meter().read().share == 0.0


def test_a_steerer_measures_angles_to_what_it_writes(demo):
    from lenssteer import edits
    from lenssteer.prompts import pad
    from lenssteer.steering import Steerer

    r = torch.randn(demo.card.d_model)
    tokens = pad(demo.encode(["repeat : cake kite", "kite"]), pad_id=demo.pad_id)
    with Steerer({SITE: edits.ablate(r)}).on(demo) as receipt:
        demo.logits(tokens)
    assert receipt.sites[SITE].direction_degrees_after == pytest.approx(90, abs=0.01)
    held = []
    undo = demo.attach(SITE, lambda h, c: held.append(h[tokens.mask].double().numpy()))
    with Steerer({SITE: edits.add(r, torch.tensor([0.0, 2.0]))}).on(demo) as receipt:
        demo.logits(tokens)
    undo()
    moved = held[0][len(demo.encode(["repeat : cake kite"])[0].ids):]
    site = receipt.sites[SITE]
    assert site.direction_degrees_before == pytest.approx(angles(moved, r.numpy()).mean(), rel=1e-4)
    assert site.direction_degrees_after == pytest.approx(angles(moved + 2 * r.numpy(), r.numpy()).mean(), rel=1e-4)
    assert site.share == len(moved) / int(tokens.mask.sum())
    with Steerer({SITE: edits.add(0 * r)}).on(demo) as receipt:
        demo.logits(tokens)
    assert receipt.sites[SITE].direction_degrees_after is None
