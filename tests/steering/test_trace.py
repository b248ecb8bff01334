import json

import numpy as np
import pytest
import torch

import lenssteer.edits as edits
from lenssteer.errors import SteeringError
from lenssteer.models import Decoding, decode, generate
from lenssteer.prompts import Columns, Tokens, pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Rowwise, Steerer, Trace
from lenssteer.steering.trace import changes, pieces

SITE, LATER = Site(2, "resid_post"), Site(5, "ln1_out")
PROMPTS = ["how do i hide a shiny gun ?", "repeat : a b c", "how do i carry a quiet old rifle ?"]


def rotation(degrees=120.0):
    basis = torch.linalg.qr(torch.randn(128, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0].T
    return edits.rotate_by(basis, degrees=degrees)


@pytest.fixture
def steerer():
    return Steerer({SITE: rotation(), LATER: rotation(40.0)})


@pytest.fixture
def tokens(demo):
    return pad(demo.encode(PROMPTS), pad_id=demo.pad_id)


def test_nothing_is_kept_unless_asked_for(demo, steerer):
    with steerer.on(demo) as receipt:
        generate(demo, PROMPTS, Decoding(2))
    assert receipt.trace is None


def test_displacement_and_angle_equal_numpy_on_the_activations_before_and_after(demo, tokens):
    seen = []
    with Steerer({SITE: rotation()}).on(demo, trace=True) as receipt:
        detach = demo.attach(SITE, lambda h, _: seen.append(h.double().numpy().copy()))
        demo.logits(tokens)
        detach()
    detach = demo.attach(SITE, lambda h, _: seen.append(h.double().numpy().copy()))
    demo.logits(tokens)
    detach()
    after, before = seen
    for row in range(3):
        a, b = (side[row][tokens.mask[row].numpy()] for side in (before, after))
        cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        traced = receipt.trace.at(row)[SITE]
        assert [one.token for one in traced] == tokens.ids[row][tokens.mask[row]].tolist()
        np.testing.assert_allclose([one.displacement for one in traced],
                                   np.linalg.norm(b - a, axis=-1), rtol=1e-4)
        np.testing.assert_allclose([one.degrees for one in traced], np.degrees(np.arccos(cosine)), rtol=1e-3)


@pytest.mark.parametrize("cache", [True, False])
def test_rows_tokens_and_counts_of_a_generation(demo, steerer, cache):
    decoding = Decoding(24, use_cache=cache)
    with steerer.on(demo):
        expected = decode(demo, pad(demo.encode(PROMPTS)), decoding)
    with steerer.on(demo, trace=True) as receipt:
        generate(demo, PROMPTS, decoding, batch_size=2)
    assert len({len(answer) for answer in expected}) > 1
    assert receipt.trace.rows == (0, 1, 2)
    for row, (encoded, answer) in enumerate(zip(demo.encode(PROMPTS), expected, strict=True)):
        for changed in receipt.trace.at(row).values():
            ids = [one.token for one in changed]
            assert ids == [*encoded.ids, *answer][: len(ids)]
            assert len(ids) >= len(encoded.ids) + len(answer) - 1
            assert sum(one.is_prompt for one in changed) == len(encoded.ids)
            assert all(one.offered and one.fired and one.displacement > 0 for one in changed)
    if cache:
        assert sum(len(changed) for row in range(3) for changed in receipt.trace.at(row).values()) == receipt.edited


@pytest.mark.parametrize("where", ["generated", "prompt", "last_prompt", "first_n(2)"])
def test_offered_is_what_where_chose(demo, steerer, where):
    with steerer.at(where).on(demo, trace=True) as receipt:
        generate(demo, PROMPTS, Decoding(6))
    for row, encoded in enumerate(demo.encode(PROMPTS)):
        end = len(encoded.ids)
        for changed in receipt.trace.at(row).values():
            place = range(len(changed))
            wanted = {"generated": [i >= end for i in place], "prompt": [i < end for i in place],
                      "last_prompt": [i == end - 1 for i in place], "first_n(2)": [end <= i < end + 2 for i in place]}
            assert [one.offered for one in changed] == [one.fired for one in changed] == wanted[where]
            assert all((one.displacement > 0) == one.offered for one in changed)


def test_prompts_that_share_a_pass_are_all_traced(demo, steerer):
    with steerer.at("generated").on(demo, trace=True) as receipt:
        generate(demo, [PROMPTS[0]] * 3, Decoding(4))
    first, *others = (receipt.trace.tokens(demo, row) for row in range(3))
    assert [one.is_prompt for one in first] == [not one.fired for one in first]
    for other in others:
        assert [one.text for one in other] == [one.text for one in first]


def test_a_closed_gate_is_offered_but_does_not_fire(demo, steerer):
    never = Condition(Site(0, "resid_post"), torch.ones(128), 2.0, similarity="cosine")
    with steerer.when(never).on(demo, trace=True) as receipt:
        generate(demo, PROMPTS[:1], Decoding(2))
    changed = receipt.trace.at(0)[SITE]
    assert all(one.offered and not one.fired and one.displacement == 0 == one.degrees for one in changed)


def test_rows_of_a_later_call_follow(demo, steerer):
    with steerer.on(demo, trace=True) as receipt:
        generate(demo, PROMPTS, Decoding(2))
        generate(demo, PROMPTS[1:2], Decoding(2))
    assert receipt.trace.rows == (0, 1, 2, 3)
    assert [one.text for one in receipt.trace.tokens(demo, 3)] == [one.text for one in receipt.trace.tokens(demo, 1)]
    with pytest.raises(SteeringError, match="row 7 was not run under this trace; its rows are 0, 1, 2, 3"):
        receipt.trace.at(7)


def test_what_no_pass_reads_and_what_bypasses_lenssteer_are_absent(demo, steerer, tokens):
    with steerer.on(demo, trace=True) as receipt:
        generate(demo, PROMPTS[:1], Decoding(3))
    assert sum(not one.is_prompt for one in receipt.trace.tokens(demo)) == 2
    with steerer.on(demo, trace=True) as receipt:
        demo.backend.model(tokens.ids[:1])
    assert receipt.edited
    assert receipt.trace.rows == ()


def test_sums_over_sites(demo, steerer):
    with steerer.on(demo, trace=True) as receipt:
        generate(demo, PROMPTS, Decoding(3))
    at = receipt.trace.at(2)
    for i, total in enumerate(receipt.trace.tokens(demo, 2)):
        assert total.displacement == pytest.approx(at[SITE][i].displacement + at[LATER][i].displacement)
        assert total.degrees == pytest.approx((at[SITE][i].degrees + at[LATER][i].degrees) / 2)
        assert total.fired == 2


def test_json_holds_every_row_and_site(demo, steerer):
    with steerer.on(demo, trace=True) as receipt:
        generate(demo, PROMPTS, Decoding(2))
    read = json.loads(json.dumps(receipt.trace.as_dict()))["rows"]
    assert [row["row"] for row in read] == [0, 1, 2]
    changed = receipt.trace.at(1)[LATER]
    assert read[1]["ids"] == [one.token for one in changed]
    assert read[1]["sites"]["ln1_out.5"]["displacement"] == [one.displacement for one in changed]
    assert read[1]["sites"]["ln1_out.5"]["offered"] == [True] * len(changed)


def test_parts_of_a_batch_know_their_own_ids(demo, steerer):
    """Rowwise hands each part its rows of the columns, ids included."""
    from lenssteer.steering.rowwise import _Rows

    columns = []
    detach = demo.attach(SITE, lambda _, seen: columns.append(seen))
    demo.run(demo_ids := pad(demo.encode(PROMPTS)).ids, _columns(demo))
    detach()
    assert torch.equal(columns[0].ids, demo_ids)
    assert torch.equal(_Rows(1, 3).of(columns[0]).ids, demo_ids[1:])
    with Rowwise(((None, 1), (steerer, 2))).on(demo):
        generate(demo, PROMPTS, Decoding(2))


def _columns(model):
    tokens = pad(model.encode(PROMPTS))
    return Columns(0, tokens.mask, tokens)


def test_pieces_make_up_the_text(demo):
    ids = list(demo.encode(PROMPTS[:1])[0].ids)
    assert "".join(pieces(demo.tokenizer, ids)) == demo.tokenizer.decode(ids)
    assert pieces(demo.tokenizer, ids)[2:5] == [" how", " do", " i"]


class Bytes:
    """A tokenizer of bytes."""

    def decode(self, ids, **_):
        return bytes(ids).decode("utf-8", errors="replace")


def test_pieces_of_a_character_wait_for_its_last_byte():
    assert pieces(Bytes(), list("aï😀b".encode())) == ["a", "", "ï", "", "", "", "😀", "b"]


class Sealed:
    """A tokenizer that ends every text with a mark, so that no text begins with a shorter one."""

    def decode(self, ids, **_):
        return "".join("abc"[i] for i in ids) + "."


def test_a_text_that_is_no_continuation_is_told_token_by_token():
    assert pieces(Sealed(), [0, 1, 2]) == ["a.", "b.", "c."]


def columns_of(start=0, rows=(0, 1), width=None):
    """Two rows of five columns by hand: three and two prompt tokens, the shorter one padded on the left."""
    mask = torch.tensor([[True] * 5, [False, True, True, True, True]])[[row % 2 for row in rows]]
    ids = torch.arange(10).reshape(2, 5)[[row % 2 for row in rows]]
    tokens = Tokens(ids, mask, torch.zeros(len(rows), 2, dtype=torch.long), torch.tensor([3, 3])[: len(rows)], torch.tensor(rows))
    return Columns(start, mask[:, : width or 5], tokens)


def test_a_pass_by_hand_is_told_token_by_token():
    trace, columns = Trace(), columns_of()
    before = torch.zeros(2, 5, 2)
    before[..., 0] = 2.0
    after = before.clone()
    after[0, 1] = torch.tensor([0.0, 2.0])
    after[1, 4] = torch.tensor([-2.0, 0.0])
    chosen = columns.real & torch.tensor([False, True, True, False, True])
    trace.add(SITE, columns, chosen, before, after)
    assert trace.rows == (0, 1)
    assert trace.sites == (SITE,)
    first, second = trace.at(0)[SITE], trace.at(1)[SITE]
    assert [one.token for one in first] == [0, 1, 2, 3, 4]
    assert [one.token for one in second] == [6, 7, 8, 9], "padding is left out"
    assert [one.is_prompt for one in first] == [True, True, True, False, False]
    assert [one.is_prompt for one in second] == [True, True, False, False]
    assert [one.offered for one in first] == [False, True, True, False, True]
    assert [one.fired for one in first] == [False, True, False, False, False]
    assert [one.fired for one in second] == [False, False, False, True]
    assert first[1].displacement == pytest.approx(8**0.5)
    assert (first[1].degrees, second[3].degrees, second[3].displacement) == (pytest.approx(90), pytest.approx(180), pytest.approx(4))


def test_passes_with_nothing_chosen_are_told_as_such():
    trace, columns = Trace(), columns_of()
    trace.add(LATER, columns, columns.real & False)
    assert [tuple(one[2:]) for one in trace.at(1)[LATER]] == [(False, False, 0.0, 0.0)] * 4


def test_a_cached_answer_follows_its_prompt_and_a_second_reading_replaces_the_first():
    trace = Trace()
    for start, width in ((0, 3), (3, 4), (4, 5)):
        columns = columns_of(start, width=width)
        h = torch.ones(2, width - start, 2)
        trace.add(SITE, columns, columns.real, h, (start + 2) * h)
    lengths = [[round(one.displacement / 2**0.5, 4) for one in trace.at(row)[SITE]] for row in (0, 1)]
    assert lengths == [[1, 1, 1, 4, 5], [1, 1, 4, 5]]
    uncached = Trace()
    for width in (3, 4, 5):
        columns = columns_of(0, width=width)
        h = torch.ones(2, width, 2)
        uncached.add(SITE, columns, columns.real, h, width * h)
    assert uncached.rows == (0, 1, 2, 3, 4, 5), "a pass from the first column on, no wider than the prompts, is a new call"


def test_rows_that_come_again_are_numbered_after_all_before():
    trace = Trace()
    for rows in ((0, 1), (2, 3), (1, 2)):
        columns = columns_of(0, rows)
        trace.add(SITE, columns, columns.real, torch.ones(2, 5, 2), torch.ones(2, 5, 2))
    assert trace.rows == (0, 1, 2, 3, 5, 6)


def test_json_of_a_trace_has_every_number_once():
    trace, columns = Trace(), columns_of()
    h = torch.ones(2, 5, 2)
    trace.add(LATER, columns, columns.real, h, 2 * h)
    trace.add(SITE, columns, columns.real & False)
    first, second = trace.as_dict()["rows"]
    assert trace.sites == (SITE, LATER)
    assert list(first["sites"]) == ["resid_post.2", "ln1_out.5"]
    assert first.keys() == {"row", "ids", "is_prompt", "sites"}
    assert (second["row"], second["ids"], second["is_prompt"]) == (1, [6, 7, 8, 9], [True, True, False, False])
    assert second["sites"]["ln1_out.5"].keys() == {"offered", "fired", "displacement", "degrees"}
    assert second["sites"]["ln1_out.5"]["fired"] == [True] * 4
    assert second["sites"]["resid_post.2"]["offered"] == [False] * 4


def test_rows_that_were_not_run_are_refused():
    with pytest.raises(SteeringError, match="row 0 was not run under this trace; its rows are none"):
        Trace().at(0)


def test_sums_over_sites_count_those_that_fired(demo):
    """By hand: 90 degrees at one site, 180 at another, nothing at a third."""
    trace, columns = Trace(), columns_of(rows=(0,))
    h = torch.tensor([1.0, 0.0]).expand(1, 5, 2)
    trace.add(SITE, columns, columns.real, h, torch.tensor([0.0, 1.0]).expand(1, 5, 2))
    trace.add(LATER, columns, columns.real, h, -h)
    trace.add(Site(7, "resid_post"), columns, columns.real, h, h)
    one = trace.tokens(demo)[4]
    assert (one.fired, one.is_prompt) == (2, False)
    assert one.text == pieces(demo.tokenizer, [0, 1, 2, 3, 4])[4]
    assert one.displacement == pytest.approx(2**0.5 + 2)
    assert one.degrees == pytest.approx(135)
    quiet = Trace()
    quiet.add(SITE, columns, columns.real, h, h)
    assert quiet.tokens(demo, 0)[0][1:] == (0.0, 0.0, 0, True)


@pytest.mark.parametrize("degrees", [1e-5, 0.5, 20.0, 30.0, 90.0, 179.0])
@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_angles_of_any_size_keep_their_digits(degrees, ratio):
    h = 7 * torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    turned = 7 * ratio * torch.tensor([[np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]])
    moved, angle, length, new_length = changes(h, turned)
    assert angle.item() == pytest.approx(degrees, rel=1e-7)
    assert moved.item() == pytest.approx(np.linalg.norm(turned - h))
    assert (length.item(), new_length.item()) == (7, pytest.approx(7 * ratio))
    both = changes(torch.cat([h, h]), torch.cat([turned, h]))[1]
    assert both.tolist() == pytest.approx([degrees, 0.0], rel=1e-7)


def test_zero_activations_have_no_angle_that_is_not_a_number():
    h, zero = torch.ones(1, 1, 4), torch.zeros(1, 1, 4)
    assert [changes(*pair)[1].item() for pair in ((h, zero), (zero, h), (zero, zero))] == [90, 90, 90]
