"""Which part of a change is let through, on activations and columns made by hand."""

import pytest
import torch

from lenssteer.prompts import Columns, pad
from lenssteer.prompts.tokens import Encoded
from lenssteer.site import Site
from lenssteer.steering import Condition, Schedule, Where
from lenssteer.steering.chooser import Chooser
from lenssteer.steering.gatekeeper import Gatekeeper

SITE = Site(0, "resid_post")
TOKENS = pad([Encoded(tuple(range(6)), (1, 2), 4), Encoded(tuple(range(4)), (0, 1), 3)])
WHOLE = Columns(0, TOKENS.mask, TOKENS)
FULL = pad([Encoded(tuple(range(6)), (1, 2), 4)] * 2)
H = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
NEW = H + 1


def seen(chooser: Chooser, columns: Columns = WHOLE) -> Chooser:
    chooser.look(columns)
    return chooser


@pytest.mark.parametrize(("chooser", "wanted"), [
    (Chooser(Where()), False), (Chooser(Where("prompt")), True), (Chooser(Where(), schedule=Schedule()), False),
    (Chooser(Where(), schedule=Schedule("linear", 2)), True),
    (Chooser(Where(), Gatekeeper(Condition(SITE, torch.ones(3), 0.0))), True),
])
def test_columns_matter_where_tokens_differ(chooser, wanted):
    assert chooser.needs_columns is wanted


def test_nothing_is_chosen_before_a_pass_is_seen():
    chooser = Chooser(Where())
    assert (chooser.seen, chooser.selected, tuple(chooser.chosen.shape)) == (0, 0, (0, 0))
    assert chooser.answer_only is False
    assert chooser.real_on(H.device) is None


def test_real_and_chosen_tokens_are_counted_once_a_pass(monkeypatch):
    asked, select = [], Where.select
    monkeypatch.setattr(Where, "select", lambda self, columns: asked.append(columns) or select(self, columns))
    chooser = seen(seen(Chooser(Where("generated"))))
    assert (chooser.seen, chooser.selected) == (10, 3)
    assert len(asked) == 1
    assert seen(chooser, Columns(5, TOKENS.mask, TOKENS)).selected == 2
    assert len(asked) == 2


def test_sites_before_a_late_gate_choose_the_answer_only():
    assert seen(Chooser(Where(), answer_only=True)).chosen.tolist() == [[False] * 4 + [True] * 2, [False] * 5 + [True]]
    assert seen(Chooser(Where("prompt"), answer_only=True)).selected == 0


def test_padding_is_told_where_there_is_some():
    chooser = seen(Chooser(Where()))
    assert torch.equal(chooser.real_on(H.device), TOKENS.mask)
    assert chooser.real_on(H.device) is chooser.real_on(H.device)
    assert seen(chooser, Columns(0, FULL.mask, FULL)).real_on(H.device) is None
    assert seen(chooser, Columns(2, TOKENS.mask, TOKENS)).real_on(H.device) is None, "no padding from there on"
    assert torch.equal(seen(chooser).real_on(H.device), TOKENS.mask)


@pytest.mark.parametrize("where", ["all", "prompt", "generated", "last_prompt"])
def test_the_change_is_let_through_where_the_rule_holds(where):
    chooser = seen(Chooser(Where.parse(where)))
    chosen = Where.parse(where).select(WHOLE).unsqueeze(-1)
    assert torch.equal(chooser.admit(H, NEW), torch.where(chosen, NEW, H))
    answer = Columns(4, TOKENS.mask, TOKENS)
    part = Where.parse(where).select(answer).unsqueeze(-1)
    assert torch.equal(seen(chooser, answer).admit(H[:, 4:], NEW[:, 4:]), torch.where(part, NEW[:, 4:], H[:, 4:]))


def test_a_change_for_every_column_passes_as_it_is():
    assert seen(Chooser(Where()), Columns(0, FULL.mask, FULL)).admit(H, NEW) is NEW


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_schedules_weigh_the_change_in_a_wide_dtype(dtype):
    """h + s (h' - h), against float64; s = 1, 0.75, ... over the answer, a third over the prompt."""
    schedule = Schedule("linear", 4, prompt=1 / 3)
    h, new = 100 * H.to(dtype), (100 * H + 1).to(dtype)
    for columns, part in ((WHOLE, slice(None)), (Columns(4, TOKENS.mask, TOKENS), slice(4, None))):
        found = seen(Chooser(Where(), schedule=schedule), columns).admit(h[:, part], new[:, part])
        weights = schedule.factors(columns).unsqueeze(-1)
        change = weights * (new.double() - h.double())[:, part]
        expected = torch.where(columns.real.unsqueeze(-1), h[:, part] + change.to(dtype), h[:, part])
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=0, atol={torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0}[dtype])


def test_factors_are_those_of_the_pass_under_way():
    chooser = Chooser(Where(), schedule=Schedule("first_n", 1, prompt=0.0))
    moved = [(seen(chooser, columns).admit(H[:, columns.start :], NEW[:, columns.start :]) - H[:, columns.start :])[0, :, 0].round().tolist()
             for columns in (WHOLE, Columns(4, TOKENS.mask, TOKENS), Columns(5, TOKENS.mask, TOKENS))]
    assert moved == [[0, 0, 0, 0, 1, 0], [1, 0], [0]]


@pytest.mark.parametrize("where", ["all", "generated"])
def test_a_gate_and_a_rule_must_both_hold(where):
    keeper = Gatekeeper(Condition(SITE, torch.tensor([1.0, 0.0, 0.0]), 0.0, "projection", scope="token"))
    for columns, tokens in ((WHOLE, TOKENS), (Columns(0, FULL.mask, FULL), FULL)):
        keeper.readers[0](H, columns)
        chooser = seen(Chooser(Where.parse(where), keeper), columns)
        wanted = (H[..., 0] > 0) & Where.parse(where).select(columns)
        assert torch.equal(chooser.admit(H, NEW)[tokens.mask], torch.where(wanted.unsqueeze(-1), NEW, H)[tokens.mask])


def test_a_gate_about_rows_opens_whole_rows():
    keeper = Gatekeeper(Condition(SITE, torch.tensor([1.0, 0.0, 0.0]), 0.0, "projection", pool="last"))
    keeper.readers[0](H, WHOLE)
    opened = [H[0, 3, 0] > 0, H[1, 4, 0] > 0]
    found = seen(Chooser(Where(), keeper)).admit(H, NEW)
    for row in range(2):
        assert torch.equal(found[row][TOKENS.mask[row]], (NEW if opened[row] else H)[row][TOKENS.mask[row]])


def test_what_is_made_for_a_device_is_made_on_it():
    """On torch's device without values: everything that is chosen follows the activation."""
    nowhere = torch.device("meta")
    h = H.to(nowhere)
    for chooser in (Chooser(Where("prompt")), Chooser(Where("prompt"), schedule=Schedule("linear", 4))):
        assert seen(chooser).admit(H, NEW).device.type == "cpu"
        assert chooser.admit(h, h).device == nowhere
        assert chooser.real_on(nowhere).device == nowhere
        assert chooser.admit(H, NEW).device.type == "cpu"
