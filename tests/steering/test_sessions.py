"""One steerer, or several, on a model: what is attached, what is counted, and what is refused in which words."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

from lenssteer import edits
from lenssteer.edits import LowRankEdit
from lenssteer.errors import FileError, MismatchError, ParameterError, SteeringError
from lenssteer.models import ModelCard
from lenssteer.prompts import Columns, pad
from lenssteer.prompts.identity import MismatchWarning, reading_of
from lenssteer.prompts.tokens import Encoded
from lenssteer.site import Site
from lenssteer.steering import Condition, Rowwise, Schedule, Steerer, Together, Where, hook_function, merged, together
from lenssteer.steering.chooser import Chooser
from lenssteer.steering.compose import _Sum
from lenssteer.steering.hooks import SiteEditor, _by_last_prompt, _direction
from lenssteer.steering.packing import pack_edits
from lenssteer.steering.receipts import Meter
from lenssteer.steering.rowwise import _Rows, _SideBySide
from lenssteer.steering.session import Session, accountable, attached
from lenssteer.steering.steerer import refuse_other_model

FIRST, SITE, LAST = (Site(k, "resid_post") for k in (1, 3, 5))
V = torch.tensor([3.0, 0.0, 4.0])
TOKENS = pad([Encoded((1, 2, 3, 4), (0, 1), 3), Encoded((5, 6), (0, 1), 1)])
WHOLE = Columns(0, TOKENS.mask, TOKENS)
H = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
CARD = ModelCard("one", "Llama", "hf", 8, 3, 64, "raw", "a" * 16)


def editor(edit=None, where="all", **named) -> SiteEditor:
    return SiteEditor(edit or edits.add(V), Chooser(Where.parse(where)), Meter(), **named)


# One site


@pytest.mark.parametrize("where", ["all", "generated"])
def test_an_editor_edits_and_counts_what_the_rule_chooses(where):
    one, told = editor(where=where), []
    one.trace = lambda *values: told.append(values)
    chosen = Where.parse(where).select(WHOLE)
    new = one(H, WHOLE)
    assert torch.equal(new, torch.where(chosen.unsqueeze(-1), H + V, H))
    receipt = one.meter.read()
    assert (receipt.passes, receipt.seen, receipt.selected, receipt.edited) == (1, 6, int(chosen.sum()), int(chosen.sum()))
    assert receipt.mean_displacement == pytest.approx(5, rel=1e-5)
    cosine = torch.cosine_similarity(new[chosen], V.expand_as(new[chosen]), dim=-1)
    assert receipt.direction_degrees_after == pytest.approx(torch.rad2deg(torch.acos(cosine)).mean().item(), rel=1e-4)
    assert [len(values) for values in told] == [4]
    assert told[0][0] is WHOLE
    assert torch.equal(told[0][1], chosen)
    assert told[0][2] is H
    assert told[0][3] is new


def test_a_pass_in_which_nothing_is_chosen_is_counted_and_left_alone():
    one, told = editor(where="generated"), []
    one.trace = lambda *values: told.append(values)
    prompt = Columns(0, TOKENS.mask[:, :3], TOKENS)
    assert one(H[:, :3], prompt) is None
    assert (one.meter.read().passes, one.meter.read().seen, one.meter.read().selected) == (1, 4, 0)
    assert len(told) == 1
    assert not told[0][1].any()
    editor(where="generated")(H[:, :3], prompt)


def test_padding_is_not_measured():
    one, h = editor(), H.clone()
    h[1, :2] = torch.nan
    one(h, WHOLE)
    assert (one.meter.read().edited, one.meter.read().non_finite) == (6, 0)


def test_arrays_are_placed_once_for_a_dtype_and_a_batch():
    plain, placed = editor(edits.add(V.double())), []
    for h in (H, H, H.double(), H.bfloat16(), H):
        edit, direction = plain._for(h, WHOLE)
        placed.append(edit)
        assert edit.read.dtype == direction.dtype == (torch.float64 if h.dtype == torch.float64 else torch.float32)
    assert placed[0] is placed[1]
    assert placed[3] is placed[4], "half precision is worked in float32"
    assert placed[1] is not placed[2]
    rowed = editor(edits.add(V, torch.tensor([1.0, 2.0, 3.0])))
    own = TOKENS.take(torch.tensor([1, 0]))
    first, again = rowed._for(H, WHOLE)[0], rowed._for(H, Columns(3, TOKENS.mask, TOKENS))[0]
    other = rowed._for(H, Columns(0, own.mask, own))[0]
    assert first is again
    assert (first.offset.tolist(), other.offset.tolist()) == ([[1], [2]], [[2], [1]])
    with pytest.raises(SteeringError, match="the edit has 3 rows but only 2 prompts were run; give one prompt a row"):
        rowed.require_all_rows()
    more = replace(own, rows=torch.tensor([2, 0]))
    rowed._for(H, Columns(0, more.mask, more))
    rowed.require_all_rows()
    plain.require_all_rows()


@pytest.mark.parametrize(("where", "answer_only", "reads"), [
    ("all", False, True), ("generated", False, False), ("first_n(2)", False, False), ("prompt", False, True), ("all", True, False)])
def test_prompts_may_be_shared_where_no_prompt_token_is_edited(where, answer_only, reads):
    one = SiteEditor(edits.add(V), Chooser(Where.parse(where), answer_only=answer_only), Meter())
    assert one.reads_prompt is reads


def test_a_model_run_directly_is_measured_too():
    one = editor(edits.add(V))
    new = one(H, None)
    assert torch.equal(new, H + V)
    receipt = one.meter.read()
    assert (receipt.passes, receipt.seen, receipt.selected, receipt.edited) == (1, 8, 8, 8)
    assert receipt.direction_degrees_before is not None
    narrow = editor(edits.add(torch.ones(1)))
    assert narrow(H[..., :1], None).shape == (2, 4, 1)
    for refused in (editor(where="prompt"), editor(edits.add(V, torch.ones(2)))):
        with pytest.raises(SteeringError, match="run directly, where lenssteer cannot see which tokens"):
            refused(H, None)
    with pytest.raises(SteeringError, match=r"where='prompt', rows=None"):
        editor(where="prompt")(H, None)
    with pytest.raises(SteeringError, match=r"where='all', rows=2"):
        editor(edits.add(V, torch.ones(2)))(H, None)


def test_the_change_of_the_last_prompt_token_is_that_of_its_own_row():
    edit = edits.scale(V, 3.0)
    for columns, h in ((WHOLE, H), (Columns(1, TOKENS.mask, TOKENS), H[:, 1:])):
        ends = [2 - columns.start, 2 - columns.start]
        expected = torch.stack([h[i] + (edit(h[i, end]) - h[i, end]) for i, end in enumerate(ends)])
        torch.testing.assert_close(_by_last_prompt(edit, h, columns), expected)
    narrow = Columns(0, TOKENS.mask[:, :3], TOKENS)
    assert _by_last_prompt(edit, H[:, :3], narrow).shape == (2, 3, 3), "the last prompt token is the last column"
    with pytest.raises(SteeringError, match="the prompt came in pieces"):
        _by_last_prompt(edit, H[:, :2], Columns(0, TOKENS.mask[:, :2], TOKENS))


def test_the_direction_of_an_edit_is_its_first_line():
    basis = torch.tensor([[0.0, 1, 0], [1.0, 0, 0]])
    turn = edits.rotate_by(basis, degrees=20)
    assert _direction(turn).tolist() == [[[0, 1, 0]]]
    assert _direction(edits.add(0 * V)) is None
    rows = edits.add(torch.stack([V, 0 * V, -V / 50]))
    torch.testing.assert_close(_direction(rows), torch.stack([V / 5, 0 * V, -V / 5]).unsqueeze(1))
    assert _direction(rows).shape == (3, 1, 3)


def test_a_hook_takes_what_transformer_lens_hands_it():
    hook = hook_function(edits.add(V))
    assert torch.equal(hook(H), H + V)
    assert torch.equal(hook(H, hook=object()), H + V)


# Sessions


def test_a_session_keeps_a_trace_only_where_it_is_asked_for():
    steerer = Steerer({LAST: edits.add(V), SITE: edits.add(V)}, Where("prompt"))
    assert Session(steerer).receipt.trace is None
    session = Session(steerer, True)
    assert list(session.editors) == [SITE, LAST]
    assert session.receipt.where == "prompt"
    assert session.receipt.gate == session.readers == []
    assert session.keeper is None
    session.editors[SITE](H, WHOLE)
    assert session.receipt.trace.sites == (SITE,)
    assert Session(replace(steerer, shared_from="last_prompt")).editors[SITE].shared is True
    assert session.editors[SITE].shared is False


def test_editors_before_the_last_condition_steer_the_answer_only():
    gate = Condition(SITE, V, -9.0, "projection") & Condition(FIRST, V, -9.0, "projection")
    session = Session(Steerer({FIRST: edits.add(V), SITE: edits.add(V), LAST: edits.add(V)}, gate=gate, late_gate="closed"))
    assert [site for site, _ in session.readers] == [SITE, FIRST]
    assert [one.chooser.answer_only for one in session.editors.values()] == [True, False, False]
    assert len(session.receipt.gate) == 2
    assert all(one.chooser.keeper is session.keeper for one in session.editors.values())
    assert session.editors[SITE].chooser is session.editors[LAST].chooser


def test_a_steering_error_is_replaced_by_what_caused_it():
    session = Session(Steerer({SITE: edits.add(V)}))
    with pytest.raises(SteeringError, match=r"^mine$"), accountable([session]):
        raise SteeringError("mine")
    session.receipt.meters[SITE].add(1, 1, torch.ones(1, 1, 3), torch.full((1, 1, 3), torch.inf))
    with pytest.raises(SteeringError, match="not finite"), accountable([session]):
        raise SteeringError("mine")
    with pytest.raises(ZeroDivisionError), accountable([session]):
        raise ZeroDivisionError
    with pytest.raises(SteeringError, match="fired nowhere"), accountable([Session(Steerer({SITE: edits.add(V)}))]):
        pass


def test_hooks_come_off_whatever_happens():
    events = []

    class Lens:
        def attach(self, site, hook):
            events.append(("on", site, hook))
            return lambda: events.append(("off", site, hook))

    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ZeroDivisionError), attached(Lens(), [(SITE, "a"), (LAST, "b")]):
            raise ZeroDivisionError
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert events == [("on", SITE, "a"), ("on", LAST, "b"), ("off", LAST, "b"), ("off", SITE, "a")]


# Steerers


def test_a_steerer_is_made_of_sound_parts():
    one = {SITE: edits.add(V)}
    assert (Steerer(one).where, Steerer(one).card, Steerer(one).provenance, Steerer(one).late_gate) == (Where(), None, {}, "refuse")
    assert (Steerer(one).gate, Steerer(one).schedule, Steerer(one).shared_from) == (None, None, "own")
    with pytest.raises(SteeringError, match="late_gate 'refuse' or 'closed' and shared_from 'own' or 'last_prompt', got 'open' and 'own'"):
        Steerer(one, late_gate="open")
    with pytest.raises(SteeringError, match="got 'refuse' and 'first'"):
        Steerer(one, shared_from="first")
    for where in ("prompt", "last_prompt"):
        assert Steerer(one, Where.parse(where), shared_from="last_prompt").shared_from == "last_prompt"
    with pytest.raises(SteeringError, match=r"but where='first_n\(2\)' chooses others too; use where='prompt'"):
        Steerer(one, Where.first_n(2), shared_from="last_prompt")


def test_a_gate_may_read_at_the_first_edit_and_no_later():
    at = {LAST: edits.add(V), SITE: edits.add(V)}
    Steerer(at, gate=Condition(SITE, V, 0.0))
    with pytest.raises(SteeringError, match=r"^the condition \(cosine at resid_post\.5 .*is read after the edit at resid_post\.3; read it"):
        Steerer(at, gate=Condition(FIRST, V, 0.0) | Condition(LAST, V, 0.0))
    Steerer(at, gate=Condition(LAST, V, 0.0), late_gate="closed")
    with pytest.raises(SteeringError, match="is read after the edit"):
        Steerer(at, gate=Condition(LAST, V, 0.0, scope="token"), late_gate="closed")


def test_changed_steerers_keep_everything_else():
    gate, card = Condition(FIRST, V, 0.0), replace(CARD)
    made = Steerer({LAST: edits.add(V), SITE: edits.add(V)}, Where("prompt"), card, {"method": "x"}, gate, "closed", Schedule("linear", 3))
    assert made.sites == (SITE, LAST)
    for changed, name, value in ((made.at("generated"), "where", Where("generated")), (made.over("cosine(4)"), "schedule", Schedule("cosine", 4)),
                                 (made.at(Where.first_n(2)), "where", Where.first_n(2))):
        assert getattr(changed, name) == value
        assert {**vars(changed), name: 0} == {**vars(made), name: 0}
    other = Condition(FIRST, -V, 0.0)
    assert str(made.when(other).gate) == f"({gate}) and ({other})"
    assert replace(made, gate=None).when(other).gate is other


def test_strengths_multiply_for_rows_and_numbers():
    made = Steerer({SITE: edits.add(V)}, provenance={"method": "x"})
    assert made.scaled(2.0).provenance == {"method": "x", "strength": 2.0}
    twice = made.scaled(2.0).scaled(torch.tensor([1.0, -1.0]))
    assert twice.provenance["strength"] == [2, -2]
    assert twice.scaled(0.5).provenance["strength"] == [1, -1]
    assert twice.edits[SITE].offset.tolist() == [[2], [-2]]
    assert made.scaled(0.1).provenance["strength"] == 0.1, "in float64"


class Model:
    """As much of a model as a steerer is compared with."""

    def __init__(self, card=CARD, tokenizer=None, template="chat"):
        self.card, self.tokenizer, self.template, self.asked = card, tokenizer, template, []

    def check_site(self, site):
        self.asked.append(site)


def test_a_steerer_is_compared_with_the_model_at_all_its_sites():
    gate = Condition(FIRST, V, 0.0)
    model = Model()
    Steerer({LAST: edits.add(V), SITE: edits.add(V)}, card=CARD, gate=gate).check(model)
    assert set(model.asked) == {FIRST, SITE, LAST}
    wider = replace(CARD, d_model=4, name="wide")
    with pytest.raises(MismatchError, match=r"the edit at resid_post\.3 is for d_model 3, wide has 4\.$"):
        Steerer({SITE: edits.add(V)}).check(Model(wider))
    with pytest.raises(MismatchError, match=r"the condition at resid_post\.1 is for d_model 3, wide has 4\.$"):
        Steerer({SITE: edits.add(torch.ones(4))}, gate=gate).check(Model(wider))


def test_cards_are_compared_field_by_field():
    for change, message in (({"d_model": 4}, "made on one with d_model 3; two has d_model 4. Calibrate on this model"),
                            ({"n_layers": 9}, "n_layers 8; two has n_layers 9"), ({"frame": "folded"}, "frame raw; two has frame folded"),
                            ({"fingerprint": "b" * 16}, rf"made on one \(weights {'a' * 16}\); two has other weights \({'b' * 16}\)")):
        with pytest.raises(MismatchError, match=message):
            refuse_other_model(CARD, replace(CARD, name="two", **change))
    for change in ({"fingerprint": ""}, {"backend": "bridge"}, {"n_ctx": 5}, {"architecture": "x"}):
        refuse_other_model(CARD, replace(CARD, **change))
        refuse_other_model(replace(CARD, **change), CARD)


def test_another_tokenizer_is_refused_and_another_format_is_a_warning(demo):
    tokenizer, template = demo.tokenizer, str(demo.template)
    same = reading_of(tokenizer, template)

    def made(**record):
        return Steerer({SITE: edits.add(V)}, provenance={"calibration": {**same, "template": template, **record}})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made().check(Model(tokenizer=tokenizer, template=template))
        made(tokenizer="0" * 16).check(Model())
        Steerer({SITE: edits.add(V)}, provenance={"calibration": "text"}).check(Model(tokenizer=tokenizer))
        made(chat_template="0" * 16, template="another").check(Model(tokenizer=tokenizer, template=template))
    with pytest.raises(MismatchError, match="another tokenizer"):
        made(tokenizer="0" * 16).check(Model(tokenizer=tokenizer, template=template))
    with pytest.warns(MismatchWarning, match="another prompt format under the name"):
        made(chat_template="0" * 16).check(Model(tokenizer=tokenizer, template=template))
    nameless = Model(tokenizer=tokenizer)
    del nameless.template
    with pytest.warns(MismatchWarning, match="under the name ''"):
        made(chat_template="0" * 16, template="").check(nameless)


def test_a_saved_steerer_holds_what_differs_from_the_plain_one(tmp_path):
    plain = Steerer({SITE: edits.add(V)})
    meta = json.loads((plain.save(tmp_path / "plain") / "steerer.json").read_text())
    assert not meta.keys() & {"gate", "late_gate", "schedule", "shared_from"}
    assert (meta["model"], meta["where"], meta["provenance"]) == (None, "all", {})
    loaded = Steerer.load(tmp_path / "plain")
    assert (loaded.card, loaded.gate, loaded.schedule, loaded.late_gate, loaded.shared_from) == (None, None, None, "refuse", "own")
    full = Steerer({SITE: edits.add(V)}, Where("prompt"), CARD, {"n": 1}, Condition(FIRST, V, 0.5), "closed", Schedule("linear", 2),
                   "last_prompt")
    meta = json.loads((full.save(tmp_path / "full") / "steerer.json").read_text())
    assert (meta["late_gate"], meta["shared_from"], meta["schedule"]["n"], meta["model"]["name"]) == ("closed", "last_prompt", 2, "one")
    loaded = Steerer.load(tmp_path / "full")
    assert (loaded.card, loaded.late_gate, loaded.schedule, loaded.shared_from) == (CARD, "closed", full.schedule, "last_prompt")
    assert torch.equal(loaded.gate.vector, V)


def test_an_edit_that_cannot_be_described_is_not_saved():
    class Bare:
        d_model, rows = 3, None

        def tensors(self):
            return {"x": V}

        def to(self, device=None, dtype=None):
            return self

        take = scaled = __call__ = to

    for named in ({"kind": 7, "options": dict}, {"kind": "sae", "options": None}, {}):
        bare = Bare()
        vars(bare).update(named)
        with pytest.raises(FileError, match=r"the edit at resid_post\.3 is a Bare, which does not say how it is saved"):
            pack_edits({SITE: bare})


# Several steerers


def test_sums_of_none_one_and_several_changes():
    nothing, one, other = editor(where="generated"), editor(edits.add(V)), editor(edits.add(2 * V))
    prompt = Columns(0, TOKENS.mask[:, :3], TOKENS)
    h = H[:, :3]
    real = prompt.real.unsqueeze(-1)
    assert _Sum([nothing])(h, prompt) is None
    assert torch.equal(_Sum([nothing, one])(h, prompt), torch.where(real, h + V, h))
    torch.testing.assert_close(_Sum([one, nothing, other])(h, prompt), torch.where(real, h + 3 * V, h))


def test_compositions_are_checked_and_their_shared_sites_named():
    here, both = Steerer({LAST: edits.add(V)}), Steerer({LAST: edits.add(V), SITE: edits.add(V)})
    with pytest.raises(SteeringError, match=r"^resid_post\.3, resid_post\.5 would be edited by several steerers; choose conflict='chain'"):
        together(both, both)
    assert together(here, Steerer({SITE: edits.add(V)})).conflict == Together((here,)).conflict == "refuse"
    assert together(here, both, conflict="sum").steerers == (here, both)
    with pytest.raises(ParameterError, match="unknown conflict 'add'; expected one of refuse, chain, sum"):
        together(here, conflict="add")
    with pytest.raises(ParameterError, match="one steerer or more, got none"):
        together()


def test_a_model_that_is_not_wrapped_is_steered_all_the_same(demo, monkeypatch):
    monkeypatch.setattr(demo.backend.model, "tokenizer", demo.tokenizer, raising=False)
    steerer, bare, ids = Steerer({SITE: edits.add(torch.ones(demo.card.d_model))}), demo.backend.model, torch.tensor([[1, 5, 6]])
    logits = []
    for model in (demo, bare):
        with torch.no_grad(), steerer.on(model) as receipt:
            logits.append(bare(ids).logits)
        assert receipt.edited == 3
        assert receipt.trace is None
    assert torch.equal(*logits)


@pytest.mark.parametrize("conflict", ["chain", "sum"])
def test_compositions_refuse_another_model_and_take_one_that_is_not_wrapped(demo, conflict, monkeypatch):
    monkeypatch.setattr(demo.backend.model, "tokenizer", demo.tokenizer, raising=False)
    v = torch.ones(demo.card.d_model)
    other = replace(demo.card, fingerprint="0" * 16)
    with pytest.raises(MismatchError, match="other weights"), together(
            Steerer({SITE: edits.add(v)}), Steerer({SITE: edits.add(v)}, card=other), conflict=conflict).on(demo):
        pass
    bare, ids = demo.backend.model, torch.tensor([[1, 5, 6]])
    with torch.no_grad(), Steerer({SITE: edits.add(3 * v)}).on(demo):
        expected = bare(ids).logits
    with torch.no_grad(), together(Steerer({SITE: edits.add(v)}), Steerer({SITE: edits.add(2 * v)}), conflict=conflict).on(bare) as receipts:
        torch.testing.assert_close(bare(ids).logits, expected, atol=1e-5, rtol=0)
    assert [receipt.edited for receipt in receipts] == [3, 3]


# Rows


def test_parts_have_rows_and_as_many_as_their_edits():
    plain, stacked = Steerer({SITE: edits.add(V)}), Steerer({SITE: edits.add(V, torch.ones(2)), LAST: edits.add(V)})
    for parts in ((), ((plain, 0),), ((None, 1), (plain, -1))):
        with pytest.raises(ParameterError, match="expected steerers with at least one row each"):
            Rowwise(parts)
    with pytest.raises(ParameterError, match="a part of 3 rows has edits stacked for 2; give one amount a row"):
        Rowwise(((None, 1), (stacked, 3)))
    assert len(Rowwise(((plain, 1), (stacked, 2), (None, 1))).parts) == 3


def test_rowwise_refuses_another_model_and_takes_one_that_is_not_wrapped(demo, monkeypatch):
    monkeypatch.setattr(demo.backend.model, "tokenizer", demo.tokenizer, raising=False)
    v = torch.ones(demo.card.d_model)
    with pytest.raises(MismatchError, match="other weights"), Rowwise(
            ((None, 1), (Steerer({SITE: edits.add(v)}, card=replace(demo.card, fingerprint="0" * 16)), 1))).on(demo):
        pass
    with pytest.raises(SteeringError, match="lenssteer cannot see which row is whose"), Rowwise(
            ((Steerer({SITE: edits.add(v)}), 1),)).on(demo.backend.model):
        demo.backend.model(torch.tensor([[1, 5]]))


def test_a_part_sees_its_own_rows_numbered_from_zero():
    tokens = pad([Encoded((i, i + 1, i + 2), (0, 1), 2) for i in range(5)])
    tokens = replace(tokens, rows=torch.tensor([4, 1, 2, 0, 3]))
    whole = Columns(0, tokens.mask, tokens)
    part = _Rows(1, 3)
    own = part.of(whole)
    assert part.of(whole) is own
    assert (own.tokens.rows.tolist(), own.tokens.ids[:, 0].tolist(), own.start, own.ids) == ([0, 1], [1, 2], 0, None)
    assert part.index(torch.device("cpu")).tolist() == [1, 2]
    later = Columns(2, torch.ones(5, 3, dtype=torch.bool), tokens, torch.arange(5).unsqueeze(-1))
    assert part.of(later).tokens is own.tokens, "the same tokens, so that decisions and placed edits hold"
    assert (part.of(later).start, part.of(later).ids.tolist()) == (2, [[1], [2]])
    other = tokens.take(torch.tensor([2, 0]))
    moved = part.of(Columns(2, torch.ones(2, 3, dtype=torch.bool), other))
    assert (moved.tokens.rows.tolist(), part.index(torch.device("cpu")).tolist()) == ([1], [0])
    assert part.index(torch.device("meta")).device.type == "meta"
    assert part.index(torch.device("cpu")).device.type == "cpu"


def test_side_by_side_each_hook_gets_its_rows():
    tokens = pad([Encoded((i, i + 1, i + 2), (0, 1), 2) for i in range(3)])
    whole = Columns(0, tokens.mask, tokens)
    h, seen = torch.randn(3, 3, 2), []

    def adding(amount):
        return lambda part, columns: seen.append((part.shape[0], columns.tokens.rows.tolist())) or part + amount

    def silent(part, columns):
        seen.append(part)

    before = h.clone()
    hooks = _SideBySide([(_Rows(0, 1), adding(1)), (_Rows(1, 3), adding(10)), (_Rows(1, 3), silent), (_Rows(3, 4), adding(100))])
    found = hooks(h, whole)
    assert torch.equal(h, before)
    torch.testing.assert_close(found - h, torch.tensor([1.0, 10, 10]).reshape(3, 1, 1).expand(3, 3, 2))
    assert seen[:2] == [(1, [0]), (2, [0, 1])]
    assert torch.equal(seen[2], h[1:]), "both hooks at a site see the activation as it came"
    assert len(seen) == 3, "a part that has left the batch is not asked"
    assert _SideBySide([(_Rows(0, 3), silent)])(h, whole) is None
    assert hooks.reads_prompt is True
    generated = [(_Rows(0, 1), editor(where="generated")), (_Rows(1, 3), editor(where="generated"))]
    assert _SideBySide(generated).reads_prompt is False
    assert _SideBySide([*generated, (_Rows(1, 3), editor())]).reads_prompt is True


def test_a_prompt_that_parts_share_passes_once_and_is_shown_to_all():
    tokens = pad([Encoded((7, 8, 9), (0, 1), 2)] * 3)
    tokens = replace(tokens, rows=torch.arange(3))
    whole, h, seen = Columns(0, tokens.mask, tokens), torch.randn(1, 3, 2), []
    hooks = _SideBySide([(_Rows(0, 1), lambda part, columns: seen.append(part)), (_Rows(1, 3), lambda part, columns: seen.append(part))])
    assert hooks(h, whole) is None
    assert [torch.equal(part, h) for part in seen] == [True, True]


def test_what_is_merged_and_what_stays_apart():
    base = Steerer({SITE: edits.add(V)}, provenance={"method": "x"})
    assert merged([]) == ()
    assert merged([(base, 2)]) == ((base, 2),)
    ((both, rows),) = merged([(base, 2), (replace(base, edits={SITE: edits.add(2 * V)}), 3)])
    assert (rows, both.provenance, both.sites) == (5, {}, (SITE,))
    assert both.edits[SITE](torch.zeros(5, 3))[:, 0].tolist() == [3, 3, 6, 6, 6]
    different = [replace(base, where=Where("prompt")), replace(base, schedule=Schedule("linear", 2)), replace(base, card=CARD),
                 Steerer({LAST: edits.add(V)}), Steerer({SITE: edits.add(V, norm="cap")}), base.at("prompt"),
                 Steerer({SITE: edits.set_angle(V, degrees=20)}), base.when(Condition(FIRST, V, 0.0)),
                 Steerer({SITE: edits.add(V)}, Where("prompt"), shared_from="last_prompt")]
    for other in different:
        assert len(merged([(base, 1), (other, 1)])) == 2, other
    gated = base.when(Condition(FIRST, V, 0.0))
    assert merged([(gated, 1), (gated, 1), (None, 1), (None, 2)]) == ((gated, 1), (gated, 1), (None, 1), (None, 2))
    two = Steerer({LAST: edits.add(V), SITE: edits.ablate(V)})
    swapped = Steerer({SITE: edits.ablate(2 * V), LAST: edits.add(V)})
    assert [rows for _, rows in merged([(two, 1), (swapped, 1)])] == [2], "the order in which sites are given does not matter"
    assert isinstance(both.edits[SITE], LowRankEdit)
