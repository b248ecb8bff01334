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


def looked_at(before, after, lines=None):
    """Means over tokens that changed, in float64: displacement, degrees, ratio, degrees to the line before and after."""
    a, b = before.double().numpy(), after.double().numpy()
    lengths = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    angle = np.degrees(np.arccos(np.clip((a * b).sum(-1) / lengths[0] / lengths[1], -1, 1)))
    found = [np.linalg.norm(b - a, axis=-1), angle, lengths[1] / lengths[0]]
    if lines is not None:
        found += [np.degrees(np.arccos((side * lines.double().numpy()).sum(-1) / length)) for side, length in zip((a, b), lengths)]
    return np.array([one.mean() for one in found])


@pytest.mark.parametrize("rows", [1, 2])
def test_many_passes_of_several_shapes_and_directions_add_up(rows):
    """More tokens than are held at once, chunks of other widths in between, and a second direction."""
    draw, meter, parts = torch.Generator().manual_seed(0), Meter(), []
    directions = [torch.nn.functional.normalize(torch.randn(rows, 1, 6, generator=draw), dim=-1) for _ in range(2)]
    for width, which in ((1500, 0), (1500, 0), (7, 0), (7, 1), (1500, 1), (1, 0)):
        h = torch.randn(2, width, 6, generator=draw)
        new = h + torch.randn(2, width, 6, generator=draw)
        meter.add(2 * width, width, h, new, directions[which])
        parts.append((h.flatten(0, 1), new.flatten(0, 1), directions[which].expand(2, width, 6).flatten(0, 1)))
    receipt = meter.read()
    total = sum(len(h) for h, *_ in parts)
    expected = looked_at(*(torch.cat(side) for side in zip(*parts)))
    found = [receipt.mean_displacement, receipt.mean_degrees, receipt.norm_ratio, receipt.direction_degrees_before,
             receipt.direction_degrees_after]
    assert (receipt.passes, receipt.seen, receipt.selected, receipt.edited) == (6, total, total // 2, total)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert meter.read() == receipt, "reading changes nothing"


def test_sums_are_held_for_4096_tokens_at_most():
    from lenssteer.steering import receipts

    meter, h = Meter(), torch.ones(1, 1024, 2)
    for held in (1, 2, 3, 0, 1):
        meter.add(1024, 1024, h, 2 * h)
        assert len(meter._held) == held
    assert receipts.HELD_TOKENS == 4096
    assert meter.read().edited == 5 * 1024


def test_padding_adds_nothing_whatever_it_holds():
    real = torch.tensor([[False, True, True], [True, True, False]])
    before, after = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    line = torch.nn.functional.normalize(torch.randn(1, 1, 4), dim=-1)
    clean, spoilt = Meter(), Meter()
    clean.add(4, 4, before[real].unsqueeze(0), after[real].unsqueeze(0), line)
    before[~real], after[~real] = torch.inf, torch.nan
    spoilt.add(4, 4, before, after, line, real)
    for name in ("seen", "edited", "non_finite", "mean_displacement", "mean_degrees", "norm_ratio", "direction_degrees_before",
                 "direction_degrees_after"):
        assert getattr(spoilt.read(), name) == pytest.approx(getattr(clean.read(), name), rel=1e-5)
    assert spoilt.read().non_finite == 0


@pytest.mark.parametrize("lengths", [(3.0, 4.0, 5.0), (1.0, 1.0, 1e-6), (1.0, 2.0, 3.0), (2.0, 1.0, 1.0), (1.0, 1.0, 2.0), (1.0, 1.0, 0.0)])
def test_the_angle_of_a_triangle_is_that_of_the_law_of_cosines(lengths):
    from lenssteer.steering.receipts import _degrees_between

    a, b, c = (torch.tensor([value], dtype=torch.float64) for value in lengths)
    cosine = (a * a + b * b - c * c) / (2 * a * b)
    expected = math.degrees(1e-6) if lengths[2] == 1e-6 else math.degrees(math.acos(cosine))
    assert _degrees_between(a, b, c).item() == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_what_becomes_or_was_zero_turned_by_a_right_angle():
    h = torch.tensor([[[3.0, 4.0]]])
    zero = torch.zeros_like(h)
    gone, born = measured(h, zero), measured(zero, h)
    assert (gone.mean_degrees, gone.norm_ratio, gone.mean_displacement) == (90, 0, 5)
    assert (born.mean_degrees, born.edited, born.mean_displacement) == (90, 1, 5)
    assert measured(h, -h).mean_degrees == pytest.approx(180)


def test_nothing_that_was_edited_means_no_change_at_all():
    empty = Meter().read()
    assert (empty.passes, empty.seen, empty.selected, empty.edited, empty.skipped) == (0, 0, 0, 0, 0)
    assert (empty.mean_displacement, empty.mean_degrees, empty.norm_ratio, empty.non_finite) == (0, 0, 1, 0)
    still = measured(torch.ones(1, 3, 2), torch.ones(1, 3, 2))
    assert (still.mean_displacement, still.norm_ratio, still.share, still.skipped) == (0, 1, 0, 3)


def test_a_share_is_that_of_the_real_tokens():
    before = torch.ones(1, 4, 2)
    after = torch.cat([2 * before[:, :1], before[:, 1:]], 1)
    assert measured(before, after).share == 0.25


def test_an_infinite_activation_spoils_no_mean_of_the_others():
    before = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    after = torch.tensor([[[0.0, 2.0], [torch.inf, 0.0], [torch.nan, 0.0]]])
    meter = Meter()
    meter.add(3, 3, before, after, torch.tensor([[[0.0, 1.0]]]))
    receipt = meter.read()
    assert (receipt.edited, receipt.non_finite) == (3, 2)
    assert receipt.mean_displacement == pytest.approx(5**0.5 / 3)
    assert receipt.direction_degrees_before == pytest.approx(90)
    assert receipt.direction_degrees_after == pytest.approx(0)


def conditions(*broken):
    from lenssteer.steering import ConditionReceipt

    return [lambda i=i, count=count: ConditionReceipt(f"c{i}", "rows", 1, 2 + count, count) for i, count in enumerate(broken)]


def test_a_receipt_for_json_has_its_sites_in_order_and_its_gate():
    later = Site(2, "resid_post")
    receipt = Receipt("prompt", {later: Meter(), SITE: Meter()})
    receipt.meters[SITE].add(2, 2, torch.ones(1, 2, 4), 2 * torch.ones(1, 2, 4))
    receipt.meters[later].add(2, 1, torch.ones(1, 2, 4), 3 * torch.ones(1, 2, 4))
    assert receipt.edited == 4
    assert list(receipt.sites) == [SITE, later]
    told = receipt.as_dict()
    assert told.keys() == {"where", "sites"}
    assert told["where"] == "prompt"
    assert list(told["sites"]) == ["resid_post.0", "resid_post.2"]
    assert told["sites"]["resid_post.2"]["norm_ratio"] == pytest.approx(3)
    gated = Receipt("all", {}, conditions(0))
    assert gated.as_dict()["conditions"] == [{"condition": "c0", "unit": "rows", "opened": 1, "closed": 2, "non_finite": 0}]


def test_silence_is_told_with_all_silent_sites_and_the_most_passes():
    sites = [Site(k, "resid_post") for k in (4, 1, 2)]
    receipt = Receipt("generated", {site: Meter() for site in sites})
    h = torch.ones(1, 5, 4)
    for site, passes in zip(sites, (3, 1, 2)):
        for _ in range(passes):
            receipt.meters[site].add(5, int(site == sites[2]), h, 2 * h)
    with pytest.raises(SteeringError, match=r"fired nowhere at resid_post\.1, resid_post\.4: where='generated' chose no token in 3 passes\."):
        receipt.require_fired()


def test_what_is_not_finite_is_counted_at_every_site():
    one, two = SITE, Site(1, "resid_post")
    receipt = Receipt("all", {one: Meter(), two: Meter()})
    h = torch.ones(1, 2, 4)
    receipt.meters[one].add(2, 2, h, torch.inf * h)
    receipt.meters[two].add(2, 2, h, torch.cat([h[:, :1], torch.nan * h[:, 1:]], 1))
    with pytest.raises(SteeringError, match=r"non-finite at resid_post\.0 in 2 tokens, resid_post\.1 in 1 tokens\); lower"):
        receipt.require_finite()
    with pytest.raises(SteeringError, match=r"a gate read activations that are not finite: c1, c3\. Load"):
        Receipt("all", {}, conditions(0, 1, 0, 2)).require_finite()
    Receipt("all", {}, conditions(0, 0)).require_finite()
