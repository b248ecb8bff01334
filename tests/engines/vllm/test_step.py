"""Without vLLM: what the op does to the tokens of steps equals what hooks do to whole rows, however they are cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer import edits
from lenssteer.engines.vllm.acting import PIECES, UNREAD
from lenssteer.engines.vllm.following import Followed
from lenssteer.engines.vllm.op import number
from lenssteer.engines.vllm.plan import Plan, key_of
from lenssteer.engines.vllm.receipts import as_dict, receipt_of
from lenssteer.engines.vllm.slot import Slot, needs_whole_prompt, reads_late
from lenssteer.engines.vllm.step import Scheduled
from lenssteer.engines.vllm.tally import by_owner, lengths, measured
from lenssteer.errors import SteeringError
from lenssteer.prompts import Columns, Encoded, pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer, Where
from lenssteer.steering.session import Session

D = 6
SITES = [Site(0, "resid_post"), Site(1, "ln1_out"), Site(1, "resid_post")]


def vector(seed):
    return torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(where="all", **options):
    return Steerer({SITES[1]: edits.ablate(vector(1)), SITES[2]: edits.add(vector(2), 0.7)}, Where.parse(where), **options)


GATE = Condition(SITES[0], vector(3), 0.0, pool="mean")
STEERERS = {
    **{rule: plain(rule) for rule in ("all", "prompt", "generated", "after_instruction", "last_prompt", "first_n(2)")},
    "linear": plain().over("linear(3)"), "cosine": plain("generated").over("cosine(4, 2, 0.5)"),
    "gate": plain("generated", gate=GATE), "last": plain("generated", gate=Condition(SITES[0], vector(3), 0.0, pool="last")),
    "token": plain(gate=Condition(SITES[0], vector(4), 0.1, scope="token")), "rule": plain("generated", gate=~GATE | GATE),
    "whole": plain(gate=GATE), "shared": plain("prompt", shared_from="last_prompt"),
    "late": Steerer({SITES[0]: edits.add(vector(5), 1.0), SITES[2]: edits.ablate(vector(6))}, late_gate="closed",
                    gate=Condition(SITES[1], vector(7), 0.0, pool="last")),
}


def in_one_pass(session, h, tokens, start, end):
    """Tokens [start, end) of a row at every site."""
    columns, own = Columns(start, torch.ones(1, end, dtype=torch.bool), tokens), []
    for site, at in zip(SITES, h[:, start:end], strict=True):
        at = at.unsqueeze(0).clone()
        for where, reader in session.readers:
            if where == site:
                reader(at, columns)
        new = session.editors[site](at, columns) if site in session.editors else None
        own.append(at[0] if new is None else new[0])
    return own


def by_hooks(steerer, rows, texts):
    """Every row by itself, its prompt and then its answer; activations by row and site, and the receipts."""
    found, receipts = [], []
    for text, h in zip(texts, rows, strict=True):
        session, tokens = Session(steerer), pad([text])
        pieces = [(0, text.prompt_end), *([(text.prompt_end, h.shape[1])] if text.prompt_end < h.shape[1] else [])]
        found.append([torch.cat(own) for own in zip(*(in_one_pass(session, h, tokens, *ends) for ends in pieces), strict=True)])
        receipts.append(session.receipt)
    return found, receipts


def by_steps(steerer, rows, texts, cuts, residual):
    """The same rows in steps; `cuts[i]` are the ends of row i's pieces. Tokens of other requests lie between them."""
    slot = Slot.of(steerer, torch.device("cpu"), SITES)
    requests = [Followed("key", slot, one.prompt_end, one.instruction[1]) for one in texts]
    found = [[torch.empty_like(at) for at in h] for h in rows]
    done, plan = [0] * len(rows), Plan([], None, torch.device("cpu"), True)
    while any(done[i] < rows[i].shape[1] for i in range(len(rows))):
        scheduled, row = [], 0
        for i in range(len(rows)):
            end = next(cut for cut in (*cuts[i], rows[i].shape[1]) if cut > done[i]) if done[i] < rows[i].shape[1] else None
            if end is not None:
                scheduled.append((i, Scheduled(requests[i], row, done[i], end - done[i])))
                row += end - done[i] + 1
        now = [one for _, one in scheduled]
        if not plan.serves(key_of(now)):
            plan.settle()
            plan = Plan(now, key_of(now), torch.device("cpu"), True)
        plan.runs += 1
        for place, site in enumerate(SITES):
            h = torch.full((row, D), 9.0)
            for i, one in scheduled:
                h[one.row : one.row + one.count] = rows[i][place, one.start : one.start + one.count]
            rest = torch.randn(row, D, generator=torch.Generator().manual_seed(place)) if residual else None
            hidden, before = (h - rest if rest is not None else h.clone()), h.clone()
            untouched = hidden.clone()
            for work in plan.works.get(number(site), []):
                work(hidden, rest)
            after = hidden + rest if rest is not None else hidden
            for i, one in scheduled:
                found[i][place][one.start : one.start + one.count] = after[one.row : one.row + one.count]
                between = one.row + one.count
                assert torch.equal(hidden[between], untouched[between])
            assert before.shape == after.shape
        for i, one in scheduled:
            done[i] += one.count
    plan.settle()
    return found, requests


LENGTHS = st.tuples(st.integers(1, 6), st.integers(0, 5), st.floats(0, 1), st.sets(st.integers(1, 10), max_size=4))


def text_of(prompt, answer, share):
    """A text whose instruction ends at that share of its prompt."""
    end = round(share * prompt)
    return Encoded(tuple(range(1, prompt + answer + 1)), (end // 2, end), prompt)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", STEERERS)
@settings(max_examples=8, deadline=None, report_multiple_bugs=False)
@given(case=st.lists(LENGTHS, min_size=1, max_size=4), seed=st.integers(0, 999))
def test_steps_do_what_hooks_do(name, residual, case, seed):
    steerer, texts, cuts = STEERERS[name], [text_of(*one[:3]) for one in case], [sorted(cut for cut in one[3] if cut < sum(one[:2])) for one in case]
    if needs_whole_prompt(steerer):
        cuts = [[cut for cut in own if cut >= one.prompt_end] for one, own in zip(texts, cuts, strict=True)]
    if reads_late(steerer):
        cuts = [sorted({*own, one.prompt_end} - {len(one.ids)}) for one, own in zip(texts, cuts, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(len(SITES), len(one.ids), D, generator=generator) for one in texts]
    expected, receipts = by_hooks(steerer, rows, texts)
    found, requests = by_steps(steerer, rows, texts, cuts, residual)
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    for request, receipt in zip(requests, receipts, strict=True):
        ours = receipt_of([request.counts()])
        assert ours.conditions == receipt.conditions
        for site, one in ours.sites.items():
            other = receipt.sites[site]
            assert (one.seen, one.selected, one.edited) == (other.seen, other.selected, other.edited)
            for field in ("mean_displacement", "norm_ratio"):
                assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-3, abs=1e-4)
            assert one.mean_degrees == pytest.approx(other.mean_degrees, rel=1e-3, abs=0.05)


def test_a_prompt_in_pieces_is_an_error_of_the_request_that_needs_it_whole():
    text = Encoded(tuple(range(1, 7)), (0, 4), 5)
    rows = [torch.randn(len(SITES), 6, D)]
    for name in ("whole", "shared"):
        _, [request] = by_steps(STEERERS[name], rows, [text], [[2]], False)
        assert as_dict(request.counts())["error"] == PIECES
        with pytest.raises(SteeringError, match="in pieces"):
            receipt_of([request.counts()])


def test_an_answer_before_its_gate_was_read_is_an_error_of_the_request():
    rows, text = [torch.randn(len(SITES), 6, D)], Encoded(tuple(range(1, 7)), (0, 4), 3)
    _, [request] = by_steps(STEERERS["late"], rows, [text], [[]], False)
    assert as_dict(request.counts())["error"] == UNREAD


@pytest.mark.parametrize("name", STEERERS)
def test_answers_token_by_token_share_a_plan(name, monkeypatch):
    """And their receipts are the same; schedules, first tokens and gates about tokens need a plan a step."""
    made = []
    plain = Plan.__init__
    monkeypatch.setattr(Plan, "__init__", lambda self, *args: (made.append(args), plain(self, *args))[1])
    texts = [Encoded(tuple(range(44)), (0, 3), 4) for _ in range(2)]
    rows = [torch.randn(len(SITES), 44, D) for _ in texts]
    expected, receipts = by_hooks(STEERERS[name], rows, texts)
    made.clear()
    found, requests = by_steps(STEERERS[name], rows, texts, [list(range(4, 44))] * 2, False)
    assert len(made) == (42 if name in ("linear", "cosine", "token", "first_n(2)") else 4)
    for ours, theirs, request, receipt in zip(found, expected, requests, receipts, strict=True):
        torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), atol=2e-5, rtol=1e-4)
        for site, one in receipt_of([request.counts()]).sites.items():
            other = receipt.sites[site]
            assert (one.passes, one.seen, one.selected, one.edited) == (41, other.seen, other.selected, other.edited)
            assert one.mean_displacement == pytest.approx(other.mean_displacement, rel=1e-4)


def test_a_steerer_at_a_site_without_an_op_is_refused():
    with pytest.raises(SteeringError, match=r"acts at resid_post\.1, which the engine was not started for"):
        Slot.of(plain(), torch.device("cpu"), SITES[:2])
    with pytest.raises(SteeringError, match=r"acts at resid_post\.0"):
        Slot.of(STEERERS["gate"], torch.device("cpu"), SITES[1:])


def test_lengths_and_angles_are_those_of_numpy():
    rng = np.random.default_rng(0)
    h, new, line = rng.normal(size=(5, D)), rng.normal(size=(5, D)), rng.normal(size=D)
    new[1], new[2], new[3] = h[1], 2.5 * h[2], np.nan
    line /= np.linalg.norm(line)
    five = torch.stack(lengths(*(torch.from_numpy(a).float() for a in (h, new, line))))
    found = by_owner(measured(five.unsqueeze(0), torch.ones(1)), torch.tensor([0, 0, 1, 1, 1]), 2).numpy()[:, 0]

    def degrees(a, b):
        return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))

    def of(i):
        return np.array([1, np.linalg.norm(new[i] - h[i]), degrees(h[i], new[i]), np.linalg.norm(new[i]) / np.linalg.norm(h[i]), 0,
                         1, degrees(h[i], line), degrees(new[i], line)])

    np.testing.assert_allclose(found[0], of(0), rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(found[1], of(2) + of(4) + [1, 0, 0, 0, 1, 0, 0, 0], rtol=1e-4, atol=0.05)
