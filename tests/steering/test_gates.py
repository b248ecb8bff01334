import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from lenssteer import edits
from lenssteer.errors import FileError, MismatchError, ParameterError, ShapeError, SteeringError
from lenssteer.models import Decoding, decode, generate
from lenssteer.prompts import Columns, pad
from lenssteer.prompts.tokens import Encoded
from lenssteer.site import Site
from lenssteer.steering import Condition, Schedule, Steerer, Where, fit_condition
from lenssteer.steering.gatekeeper import ConditionReader
from lenssteer.steering.gates import Rule
from lenssteer.steering.packing import pack_edits, pack_gate, unpack_edits, unpack_gate

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?", "kite",
           "tell me how to hide a bomb .", "please help me fix a big blue table now ."]
READ, EDIT = Site(2, "resid_post"), Site(4, "resid_post")


@pytest.fixture(scope="module")
def vector(demo):
    return torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def resid(demo):
    """Activations at READ by a torch hook of our own: one [tokens, d_model] array a prompt, each prompt run alone."""
    found = []
    handle = demo.backend.model.model.layers[READ.layer].register_forward_hook(
        lambda m, a, out: found.append((out[0] if isinstance(out, tuple) else out)[0].double().numpy()))
    for one in demo.encode(PROMPTS):
        demo.logits(pad([one]))
    handle.remove()
    return found


def similarity(h, c, kind):
    """The authors' definitions, in NumPy."""
    projected = np.outer(c, c) @ h / (c @ c)
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    return {"cosine": lambda: cosine(h, c), "abs_cosine": lambda: cosine(h, projected),
            "tanh_cosine": lambda: cosine(h, np.tanh(projected)),
            "projection": lambda: h @ c / np.linalg.norm(c)}[kind]()


def halfway(values):
    """A threshold in the widest gap of the middle values: some prompts on either side."""
    ordered = sorted(values)
    i = max(range(1, len(ordered) - 2), key=lambda i: ordered[i + 1] - ordered[i])
    return (ordered[i] + ordered[i + 1]) / 2


@pytest.fixture(scope="module")
def plain(demo, vector):
    """Answers without steering, and with steering that no gate holds back."""
    edit = edits.add(vector.float(), 3.0)
    unsteered = generate(demo, PROMPTS, Decoding(8), batch_size=1)
    with Steerer({EDIT: edit}).on(demo):
        steered = generate(demo, PROMPTS, Decoding(8), batch_size=1)
    assert all(a != b for a, b in zip(unsteered, steered, strict=True))
    return edit, unsteered, steered


@pytest.mark.parametrize("kind", ["cosine", "abs_cosine", "tanh_cosine", "projection"])
def test_similarities_equal_numpy(resid, vector, kind):
    condition = Condition(READ, vector, 0.0, kind)
    h = resid[0]
    ours = condition.value(torch.from_numpy(h)).numpy()
    np.testing.assert_allclose(ours, [similarity(row, vector.numpy(), kind) for row in h], atol=1e-12)


def test_an_activation_of_length_zero_meets_no_cosine(vector):
    for kind in ("cosine", "abs_cosine", "tanh_cosine", "projection"):
        assert Condition(READ, vector, 0.0, kind).value(torch.zeros(2, len(vector), dtype=torch.float64)).tolist() == [0, 0]


def test_the_comparison_is_strict():
    h = torch.tensor([[1.0, 0.0], [2.0, 5.0], [0.5, 0.0]])
    condition = Condition(READ, torch.tensor([2.0, 0.0]), 1.0, "projection")
    assert condition.met(h).tolist() == [False, True, False]
    assert replace(condition, above=False).met(h).tolist() == [False, False, True]


@pytest.mark.parametrize(("pool", "kind"), [("mean", "cosine"), ("last", "tanh_cosine"), ("mean", "projection")])
def test_every_row_is_steered_as_its_own_prompt_says(demo_models, resid, vector, plain, pool, kind):
    """Oracle: the similarities by NumPy from our own hook, and answers of runs without any gate."""
    edit, unsteered, steered = plain
    pooled = [h.mean(0) if pool == "mean" else h[-1] for h in resid]
    values = [similarity(h, vector.numpy(), kind) for h in pooled]
    threshold = halfway(values)
    expected = [s if value > threshold else u for value, u, s in zip(values, unsteered, steered, strict=True)]
    condition = Condition(READ, vector, threshold, kind, pool=pool)
    opened = sum(value > threshold for value in values)
    for name, lens in demo_models.items():
        for use_cache in (True, False) if name == "hf" or pool == "last" else (True,):
            for batch_size in (len(PROMPTS), 4, 1) if name == "hf" else (4,):
                with Steerer({EDIT: edit}, gate=condition).on(lens) as receipt:
                    answers = generate(lens, PROMPTS, Decoding(8, use_cache=use_cache), batch_size=batch_size)
                assert answers == expected
                (read,) = receipt.conditions
                assert (read.unit, read.opened, read.closed) == ("rows", opened, len(PROMPTS) - opened)


def test_a_decision_holds_for_rows_that_outlive_others(demo, resid, vector, plain):
    """Rows that stop early leave the batch; the others keep what was decided of their own prompt."""
    edit, *_ = plain
    values = [similarity(h.mean(0), vector.numpy(), "cosine") for h in resid]
    condition = Condition(READ, vector, halfway(values))
    lengths = set()
    for use_cache in (True, False):
        decoding = Decoding(30, use_cache=use_cache)
        with Steerer({EDIT: edit}, gate=condition).on(demo):
            together = decode(demo, pad(demo.encode(PROMPTS), pad_id=demo.pad_id), decoding)
        alone = []
        for one in demo.encode(PROMPTS):
            with Steerer({EDIT: edit}, gate=condition).on(demo):
                alone += decode(demo, pad([one]), decoding)
        assert together == alone
        lengths |= set(map(len, together))
    assert len(lengths) > 2


def test_the_next_prompts_do_not_inherit_a_decision(demo, resid, vector, plain):
    """The same row numbers and the same block, other prompts: in either order."""
    edit, unsteered, steered = plain
    values = [similarity(h.mean(0), vector.numpy(), "cosine") for h in resid]
    first, second = int(np.argmax(values)), int(np.argmin(values))
    condition = Condition(READ, vector, (max(values) + min(values)) / 2)
    with Steerer({EDIT: edit}, gate=condition).on(demo):
        for use_cache in (True, False):
            for i, expected in ((first, steered), (second, unsteered), (first, steered)):
                assert generate(demo, [PROMPTS[i]], Decoding(8, use_cache=use_cache)) == [expected[i]]


def test_an_answer_without_its_prompt_is_refused(demo, vector, plain):
    edit, *_ = plain
    tokens = pad(demo.encode(PROMPTS[:1]))
    steerer = Steerer({EDIT: edit}, gate=Condition(READ, vector, 0.0))
    wider = torch.cat([tokens.mask, torch.ones(1, 1, dtype=torch.bool)], -1)
    other = pad(demo.encode(PROMPTS[1:2]))
    with pytest.raises(SteeringError, match="has not read these prompts"), steerer.on(demo):
        demo.run(tokens.ids[:, :1], Columns(tokens.ids.shape[1], wider, tokens))
    with pytest.raises(SteeringError, match="has not read these prompts"), steerer.on(demo):
        demo.logits(other)
        demo.run(tokens.ids[:, :1], Columns(tokens.ids.shape[1], wider, tokens))
    with pytest.raises(SteeringError, match="in pieces"), steerer.on(demo):
        demo.run(tokens.ids[:, :3], Columns(0, tokens.mask[:, :3], tokens))


def test_token_conditions_decide_every_token(demo, vector):
    """Oracle: a torch hook that edits by hand exactly the tokens on one side of a threshold."""
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    unit, held = vector.float() / vector.float().norm(), []
    layers = demo.backend.model.model.layers
    handles = [layers[READ.layer].register_forward_hook(lambda m, a, out: held.append(out @ unit > 0.3)),
               layers[EDIT.layer].register_forward_hook(
                   lambda m, a, out: torch.where(held[-1].unsqueeze(-1), out + vector.float(), out))]
    by_hand = demo.logits(tokens)
    for handle in handles:
        handle.remove()
    gate = Condition(READ, vector, 0.3, "projection", scope="token")
    with Steerer({EDIT: edits.add(vector.float())}, gate=gate).on(demo) as receipt:
        torch.testing.assert_close(demo.logits(tokens)[tokens.mask], by_hand[tokens.mask], atol=1e-5, rtol=0)
    (read,) = receipt.conditions
    assert read.opened == receipt.sites[EDIT].edited == int((held[-1] & tokens.mask).sum())
    assert 0 < read.opened < read.opened + read.closed == int(tokens.mask.sum())


def test_a_condition_at_the_edited_site_reads_what_comes_before_the_edit(demo, resid, vector, plain):
    values = [similarity(h.mean(0), vector.numpy(), "cosine") for h in resid]
    threshold = halfway(values)
    expected = {i for i, value in enumerate(values) if value > threshold}
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    clean = demo.logits(tokens)
    with Steerer({READ: edits.add(vector.float(), -30.0)}, gate=Condition(READ, vector, threshold)).on(demo):
        moved = (demo.logits(tokens) - clean)[:, -1].abs().amax(-1)
        again = (demo.logits(tokens) - clean)[:, -1].abs().amax(-1)
    assert {i for i, change in enumerate(moved) if change > 0} == expected
    assert torch.equal(moved, again)


def test_trees_follow_the_truth_table(vector):
    a, b, c = (Condition(READ, vector, 0.0) for _ in range(3))
    gate = (a & ~b) | c
    values = torch.tensor([[(i >> k) & 1 for i in range(8)] for k in range(3)]).bool().unsqueeze(-1)
    held = gate.holds(dict(zip((a, b, c), values, strict=True)))[:, 0].tolist()
    assert held == [bool((x and not y) or z) for x, y, z in values[:, :, 0].T.tolist()]
    assert gate.conditions == (a, b, c)
    assert (a & a).conditions == (a,)


def test_trees_mix_decisions_about_rows_and_tokens(demo, resid, vector):
    rows = [similarity(h.mean(0), vector.numpy(), "cosine") for h in resid]
    threshold = halfway(rows)
    row = Condition(READ, vector, threshold)
    token = Condition(Site(1, "resid_post"), vector, 0.0, "projection", scope="token")
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    edit = edits.add(vector.float())
    counts = {}
    for name, gate in {"row": row, "token": token, "both": row & token, "either": row | token, "none": ~(row | token)}.items():
        with Steerer({EDIT: edit}, gate=gate).on(demo) as receipt:
            demo.logits(tokens)
        counts[name] = receipt.edited
    assert counts["row"] == sum(len(h) for h, value in zip(resid, rows, strict=True) if value > threshold)
    assert counts["either"] == counts["row"] + counts["token"] - counts["both"]
    assert counts["none"] == int(tokens.mask.sum()) - counts["either"]
    assert 0 < counts["both"] < min(counts["row"], counts["token"])


def test_a_closed_gate_leaves_the_logits_bit_identical(demo, vector):
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    clean = demo.logits(tokens)
    with Steerer({EDIT: edits.add(vector.float())}, gate=Condition(READ, vector, 2.0)).on(demo) as receipt:
        assert torch.equal(demo.logits(tokens), clean)
    assert receipt.edited == 0
    assert receipt.sites[EDIT].selected == int(tokens.mask.sum())
    assert receipt.as_dict()["conditions"][0]["closed"] == len(PROMPTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_and_answers_never_enter_the_mean(demo, vector, dtype):
    tokens = pad(demo.encode(PROMPTS[:4], answers=["the cake", "no", "a", "cake"]), pad_id=demo.pad_id)
    columns = Columns(0, tokens.mask, tokens)
    h = torch.randn(*tokens.ids.shape, len(vector)).to(dtype)
    prompt = tokens.mask & (columns.index < tokens.prompt_end.unsqueeze(-1))
    values = [similarity(h[i][prompt[i]].double().numpy().mean(0), vector.numpy(), "cosine") for i in range(4)]
    threshold = float(np.sort(values)[1:3].mean())
    for rubbish in (torch.nan, torch.inf, 1e4):
        reader = ConditionReader(Condition(READ, vector, threshold))
        reader(torch.where(prompt.unsqueeze(-1), h, rubbish), columns)
        assert reader.decided(columns)[:, 0].tolist() == [value > threshold for value in values]


def test_a_gate_that_is_read_too_late_is_refused(vector):
    late = Condition(Site(6, "resid_post"), vector, 0.0)
    edit = edits.add(vector.float())
    with pytest.raises(SteeringError, match="read after the edit"):
        Steerer({EDIT: edit}, gate=late)
    with pytest.raises(SteeringError, match="read after the edit"):
        Steerer({EDIT: edit}, gate=replace(late, scope="token"), late_gate="closed")
    with pytest.raises(SteeringError, match="late_gate"):
        Steerer({EDIT: edit}, late_gate="open")
    Steerer({EDIT: edit}, gate=late, late_gate="closed")


def test_a_late_gate_steers_the_answer_only(demo, vector, plain):
    """Where the gate opens, the answers are those of where="generated"; the same with and without cache."""
    edit, unsteered, _ = plain
    with Steerer({EDIT: edit}, Where("generated")).on(demo):
        expected = generate(demo, PROMPTS, Decoding(8))
    assert expected != unsteered
    for threshold, answers in ((-2.0, expected), (2.0, unsteered)):
        steerer = Steerer({EDIT: edit}, gate=Condition(Site(6, "resid_post"), vector, threshold), late_gate="closed")
        for use_cache in (True, False):
            with steerer.on(demo):
                assert generate(demo, PROMPTS, Decoding(8, use_cache=use_cache)) == answers
    tokens = pad(demo.encode(PROMPTS[:1], answers=["the cake"]))
    with pytest.raises(SteeringError, match="earlier pass"), steerer.on(demo):
        demo.logits(tokens)


def test_sites_after_a_late_condition_are_steered_in_the_prompt_too(demo, vector):
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    edit, last = edits.add(vector.float()), Site(7, "resid_post")
    gate = Condition(Site(6, "resid_post"), vector, -2.0)
    with Steerer({EDIT: edit, last: edit}, gate=gate, late_gate="closed").on(demo) as receipt:
        decode(demo, tokens, Decoding(2))
    assert receipt.sites[last].edited == receipt.sites[EDIT].edited + int(tokens.mask.sum()) > 0


def test_running_the_underlying_model_is_refused(demo, vector):
    steerer = Steerer({EDIT: edits.add(vector.float())}, gate=Condition(READ, vector, 0.0))
    with pytest.raises(SteeringError, match="run directly"), steerer.on(demo):
        demo.backend.model(torch.tensor([[1, 5, 6]]))


@pytest.mark.parametrize("change", [
    {"similarity": "dot"}, {"pool": "max"}, {"scope": "all"}, {"threshold": float("nan")},
    {"vector": torch.zeros(4)}, {"vector": torch.full((4,), torch.inf)},
])
def test_bad_conditions_are_refused(change):
    with pytest.raises(ParameterError):
        Condition(**{"site": READ, "vector": torch.ones(4), "threshold": 0.0, **change})


def test_another_width_is_refused(demo, vector):
    steerer = Steerer({EDIT: edits.add(vector.float())}, gate=Condition(READ, vector[:-1], 0.0))
    with pytest.raises(MismatchError, match="condition at"), steerer.on(demo):
        pass
    with pytest.raises(ShapeError, match="d_model"):
        Condition(READ, vector, 0.0).value(torch.ones(2, 3))


def test_gates_are_saved_and_loaded(demo, vector, tmp_path):
    a, b = (Condition(READ, vector * k, 0.01 * k, kind, above=k > 1, pool="last", f1=0.9)
            for k, kind in ((1.0, "cosine"), (2.0, "abs_cosine")))
    steerer = Steerer({EDIT: edits.add(vector.float())}, Where("prompt"), demo.card, gate=(a & ~b) | a, late_gate="closed",
                      schedule=Schedule("linear", 4, prompt=0.5), shared_from="last_prompt")
    folder = steerer.save(tmp_path / "s")
    loaded = Steerer.load(folder)
    assert str(loaded.gate) == str(steerer.gate)
    assert (loaded.late_gate, loaded.schedule, loaded.shared_from) == ("closed", steerer.schedule, "last_prompt")
    for mine, theirs in zip(loaded.gate.conditions, (a, b), strict=True):
        assert torch.equal(mine.vector, theirs.vector)
        assert replace(mine, vector=theirs.vector).__dict__ == theirs.__dict__
    meta = json.loads((folder / "steerer.json").read_text())
    for damage in ({"rule": 7}, {"rule": {"xor": [0, 1]}}, {"conditions": [{}]}):
        (folder / "steerer.json").write_text(json.dumps(meta | {"gate": meta["gate"] | damage}))
        with pytest.raises(FileError):
            Steerer.load(folder)


@pytest.mark.parametrize("kind", ["cosine", "abs_cosine", "tanh_cosine", "projection"])
@pytest.mark.parametrize("above", [True, False, None])
def test_the_fitted_threshold_has_the_best_f1_there_is(kind, above):
    """Brute force with scikit-learn over every cut between samples, and beyond them."""
    for seed in range(4):
        draw = np.random.default_rng(seed)
        c, positive, negative = draw.normal(size=6), draw.normal(0.4, 1, (9, 6)), draw.normal(size=(13, 6))
        values = np.array([similarity(h, c, kind) for h in (*positive, *negative)])
        truth = np.arange(22) < 9
        cuts = [values.min() - 1, *(np.sort(values)[:-1] + np.diff(np.sort(values)) / 2)]
        scores = {True: max(f1_score(truth, values > t) for t in cuts),
                  False: max(f1_score(truth, values < t) for t in [*cuts[1:], values.max() + 1])}
        condition = fit_condition(*map(torch.from_numpy, (positive, negative)), READ, torch.from_numpy(c), similarity=kind,
                                  above=above)
        best = max(scores.values()) if above is None else scores[above]
        assert condition.f1 == pytest.approx(best, abs=1e-12)
        fired = condition.met(torch.from_numpy(np.concatenate([positive, negative]))).numpy()
        assert f1_score(truth, fired) == pytest.approx(best, abs=1e-12)
        assert above is None or condition.above is above


def test_classes_that_separate_are_cut_halfway():
    samples = torch.tensor([[3.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [-4.0, 0.0]])
    condition = fit_condition(samples[:2], samples[2:], READ, torch.tensor([1.0, 0.0]), similarity="projection")
    assert (condition.threshold, condition.above, condition.f1) == (0.5, True, 1.0)
    condition = fit_condition(samples[2:], samples[:2], READ, torch.tensor([1.0, 0.0]), similarity="projection")
    assert (condition.threshold, condition.above, condition.f1) == (0.5, False, 1.0)


def test_conditions_are_not_fitted_on_nothing():
    with pytest.raises(ParameterError, match="both classes"):
        fit_condition(torch.ones(0, 2), torch.ones(3, 2), READ, torch.ones(2))
    with pytest.raises(ParameterError, match="not finite"):
        fit_condition(torch.full((2, 2), torch.nan), torch.ones(3, 2), READ, torch.ones(2))


BATCH = pad([Encoded((9, 1, 2, 3, 4, 5), (1, 2), 4), Encoded((8, 7, 6, 5), (0, 1), 3)])
AXIS = torch.tensor([2.0, 0.0, 0.0])


def turn(columns, *, scope="prompt", pool="mean", reader=None, h=None, **named):
    """A reader of the first coordinate, after one pass."""
    reader = reader or ConditionReader(Condition(READ, AXIS, 0.0, "projection", scope=scope, pool=pool, **named))
    reader(torch.randn(len(columns.mask), columns.mask.shape[1] - columns.start, 3, generator=torch.Generator().manual_seed(columns.start))
           if h is None else h, columns)
    return reader


def test_conditions_and_rules_read_as_sentences(vector):
    a = Condition(READ, vector, 0.123456)
    b = Condition(EDIT, vector, -2, "projection", above=False, pool="last")
    c = replace(a, scope="token")
    assert str(a) == "cosine at resid_post.2 of prompt mean > 0.1235"
    assert str(b) == "projection at resid_post.4 of prompt last < -2"
    assert str(c) == "cosine at resid_post.2 of token > 0.1235"
    assert str(a & b | ~c) == f"(({a}) and ({b})) or (not ({c}))"


@pytest.mark.parametrize("kind", ["and", "or"])
def test_rules_of_three_hold_where_all_or_any_do(vector, kind):
    parts = tuple(Condition(READ, vector, 0.0) for _ in range(3))
    values = torch.tensor([[(i >> k) & 1 for i in range(8)] for k in range(3)]).bool().unsqueeze(-1)
    held = Rule(kind, parts).holds(dict(zip(parts, values, strict=True)))
    assert torch.equal(held, values.all(0) if kind == "and" else values.any(0))
    assert Rule(kind, (*parts, parts[0])).conditions == parts


def test_bad_conditions_are_told_apart():
    for change, message in (({"similarity": "dot"}, "unknown similarity 'dot'; expected one of cosine, abs_cosine, tanh_cosine, projection"),
                            ({"pool": "max"}, "unknown pool 'max'; expected one of mean, last"),
                            ({"scope": "row"}, "unknown scope 'row'; expected one of prompt, token"),
                            ({"vector": torch.tensor([1.0, torch.nan])}, r"vector of the condition at resid_post\.2 is zero or not finite"),
                            ({"vector": torch.zeros(2)}, r"vector of the condition at resid_post\.2 is zero or not finite"),
                            ({"threshold": torch.inf}, "threshold=inf: expected a finite number"),
                            ({"threshold": -torch.inf}, "threshold=-inf: expected a finite number")):
        with pytest.raises(ParameterError, match=message):
            Condition(**{"site": READ, "vector": torch.tensor([0.0, 1.0]), "threshold": 0.0, **change})
    assert Condition(READ, torch.tensor([0.0, 1.0]), -1e300).threshold == -1e300


def test_a_condition_keeps_everything_but_the_dtype_of_its_vector():
    made = Condition(READ, AXIS, 0.5, "abs_cosine", False, "last", "token", 0.75)
    moved = made.to(torch.device("cpu"), torch.float64)
    assert moved.vector.dtype == torch.float64
    assert replace(moved, vector=made.vector).__dict__ == made.__dict__
    assert made.value(torch.ones(2, 5, 3, dtype=torch.float64)).dtype == torch.float32
    with pytest.raises(ShapeError, match="the condition is for d_model 3, the activation has 2"):
        made.value(torch.ones(4, 2))


@pytest.mark.parametrize("kind", ["cosine", "abs_cosine", "tanh_cosine", "projection"])
def test_similarities_of_any_batch_are_those_of_each_activation(kind):
    """Tiny and large activations among them: the cosine has no epsilon that they would feel."""
    h = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = h * torch.tensor([1e-9, 1.0, 1e6, 0.3], dtype=torch.float64).unsqueeze(-1)
    found = Condition(READ, AXIS.double(), 0.0, kind).value(h)
    expected = np.array([[similarity(x, AXIS.double().numpy(), kind) for x in row] for row in h.numpy()])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_is_not_a_number_is_on_no_side():
    for above in (True, False):
        condition = Condition(READ, AXIS, 0.0, "projection", above)
        assert condition.is_side(torch.tensor([torch.nan])).tolist() == [False]
        assert condition.met(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])).tolist() == [above, not above]


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_rows_are_counted_when_they_are_decided_and_not_again(pool):
    """The prompt once, though its answer follows in passes of its own; then the next prompts."""
    h = torch.zeros(2, 4, 3)
    h[0, :, 0], h[1, :, 0] = 1.0, -1.0
    reader = turn(Columns(0, BATCH.mask[:, :4], replace_end(4, 3)), h=h, pool=pool)
    first = reader.read()
    assert (first.unit, first.opened, first.closed, first.non_finite) == ("rows", 1, 1, 0)
    for start in (4, 5):
        turn(Columns(start, BATCH.mask[:, : start + 1], replace_end(4, 3)), reader=reader)
    assert reader.read() == first
    turn(Columns(0, BATCH.mask[:, :4], replace_end(4, 3)), h=h.abs() * torch.tensor([1.0, torch.nan]).reshape(2, 1, 1), reader=reader)
    last = reader.read()
    assert (last.opened, last.closed, last.non_finite) == (2, 2, 1)
    assert str(reader.condition) == last.condition


def replace_end(*ends):
    """The batch with prompts that end in the first four columns."""
    return replace(BATCH, prompt_end=torch.tensor(ends))


def test_tokens_are_counted_pass_by_pass_without_padding():
    columns = Columns(0, BATCH.mask, BATCH)
    h = torch.ones(2, 6, 3)
    h[1, :2] = torch.nan
    h[0, 5, 0], h[1, 5, 0] = -1.0, torch.nan
    reader = turn(columns, h=h, scope="token")
    assert (reader.read().unit, reader.read().opened, reader.read().closed, reader.read().non_finite) == ("tokens", 8, 2, 1)
    assert torch.equal(reader.decided(columns), h[..., 0] > 0)
    turn(Columns(5, BATCH.mask, BATCH), h=h[:, :1], reader=reader)
    assert (reader.read().opened, reader.read().closed) == (9, 3)
    with pytest.raises(SteeringError, match="has not read these prompts"):
        reader.decided(columns)
    empty = ConditionReader(Condition(READ, AXIS, 0.0)).read()
    assert (empty.opened, empty.closed, empty.non_finite) == (0, 0, 0)


def test_rows_that_leave_the_batch_take_their_decision_along():
    columns = Columns(0, BATCH.mask, BATCH)
    h = torch.zeros(2, 6, 3)
    h[0, :, 0], h[1, :, 0] = -1.0, 1.0
    reader = turn(columns, h=h)
    assert reader.decided(columns).tolist() == [[False], [True]]
    for kept in ([1, 0], [0]):
        fewer = Columns(6, torch.ones(len(kept), 7, dtype=torch.bool), reader._tokens.take(torch.tensor(kept)))
        assert reader.decided(fewer).tolist() == [[True], [False]][: len(kept)]
    stranger = replace(BATCH.take(torch.tensor([1])), rows=torch.tensor([5]))
    other = replace(stranger, rows=torch.tensor([1]), ids=stranger.ids + 1)
    for tokens in (stranger, other):
        with pytest.raises(SteeringError, match=r"the gate \(projection at resid_post\.2 of prompt mean > 0\) has not read"):
            reader.decided(Columns(6, torch.ones(1, 7, dtype=torch.bool), tokens))


def test_the_last_prompt_token_and_the_mean_are_those_of_the_prompt():
    h = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    columns = Columns(0, BATCH.mask, BATCH)
    for pool, expected in (("last", [h[0, 3], h[1, 4]]), ("mean", [h[0, :4].mean(0), h[1, 2:5].mean(0)])):
        for row in range(2):
            below = turn(columns, h=h, pool=pool)
            assert below.decided(columns)[row].item() == bool(expected[row][0] > 0)
            value = below.condition.value(expected[row].float()).item()
            for shift in (-1e-6, 1e-6):
                reader = ConditionReader(replace(below.condition, threshold=value + shift))
                reader(h, columns)
                assert reader.decided(columns)[row].item() == (shift < 0)


def test_a_gate_that_reads_in_float64_decides_in_float64():
    columns = Columns(0, BATCH.mask, BATCH)
    h = torch.full((2, 6, 3), 1.0, dtype=torch.float64) + torch.tensor([1e-12, -1e-12], dtype=torch.float64).reshape(2, 1, 1)
    for scope in ("prompt", "token"):
        reader = turn(columns, h=h, scope=scope)
        reader = ConditionReader(replace(reader.condition, threshold=1.0))
        reader(h, columns)
        assert reader.decided(columns)[:, -1].tolist() == [True, False]
        reader(h.float(), columns)
        assert reader.decided(columns)[:, -1].tolist() == [False, False]


def test_an_unattended_reader_says_what_to_use():
    with pytest.raises(SteeringError, match="the underlying model was run directly, where a gate cannot tell"):
        ConditionReader(Condition(READ, AXIS, 0.0))(torch.ones(1, 2, 3), None)


@pytest.mark.parametrize(("positive", "negative", "expected"), [
    ([1.0, 2.0, 9.0], [3.0, 4.0], (2.5, False, 0.8)),  # below 2.5 finds two of three; above 6.5 one, everything all and two more
    ([4.0, 6.0], [1.0, 2.0], (3.0, True, 1.0)),
    ([5.0], [1.0, 2.0], (3.5, True, 1.0)),
    ([1.0, 2.0], [4.0, 6.0], (3.0, False, 1.0)),
])
def test_the_better_side_is_cut_in_the_middle_of_the_gap(positive, negative, expected):
    samples = [torch.tensor([[value, 0.0] for value in side]) for side in (positive, negative)]
    condition = fit_condition(*samples, READ, torch.tensor([1.0, 0.0]), similarity="projection", pool="last", scope="token")
    assert (condition.pool, condition.scope, condition.similarity, condition.site) == ("last", "token", "projection", READ)
    assert (condition.threshold, condition.above, condition.f1) == expected


def test_equal_scores_take_the_widest_gap_and_above():
    """Two classes alike: no threshold is better than one that every sample meets, on either side."""
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 0.0]])
    axis = torch.tensor([1.0, 0.0])
    ambiguous = fit_condition(x[:2], x[:2], READ, axis, similarity="projection")
    assert (ambiguous.above, ambiguous.f1) == (True, pytest.approx(2 / 3))
    assert ambiguous.threshold == 0.5, "every sample meets it, a gap below the least"
    flat = fit_condition(x[:1], x[:1], READ, axis, similarity="projection")
    assert flat.threshold == pytest.approx(1 - 0.0005)
    with pytest.raises(ParameterError, match="got 0 positive and 3 negative samples"):
        fit_condition(x[:0], x, READ, axis)
    with pytest.raises(ParameterError, match="got 3 positive and 0 negative samples"):
        fit_condition(x, x[:0], READ, axis)
    with pytest.raises(ParameterError, match=r"activations at resid_post\.2 are not finite"):
        fit_condition(x, x * torch.inf, READ, axis)


def test_rules_are_packed_by_the_number_of_their_conditions(vector):
    a, b = (Condition(READ, vector * k, 0.5 * k, f1=None if k > 1 else 0.5) for k in (1.0, 2.0))
    gate = (a & ~b) | a
    packed, vectors = pack_gate(gate)
    assert packed["rule"] == {"or": [{"and": [0, {"not": [1]}]}, 0]}
    assert [c["threshold"] for c in packed["conditions"]] == [0.5, 1.0]
    assert set(vectors) == {"gate/0", "gate/1"}
    assert vectors["gate/1"] is not b.vector, "a copy: safetensors refuses shared memory"
    again = unpack_gate(packed, vectors)
    assert str(again) == str(gate)
    assert again.conditions[1].f1 is None
    with pytest.raises(FileError, match="unknown rule 'xor' in a gate; it was written by a newer lenssteer"):
        unpack_gate(packed | {"rule": {"xor": [0, 1]}}, vectors)


def test_edits_are_packed_with_shared_arrays_once_and_their_options():
    edit = edits.rotate_by(torch.eye(2, 3, dtype=torch.float64), degrees=20)
    plain = edits.add(torch.ones(3), norm="cap")
    sites, tensors = pack_edits({EDIT: plain, READ: edit, Site(1, "resid_post"): edit})
    assert list(sites) == ["resid_post.1", "resid_post.2", "resid_post.4"]
    assert sites["resid_post.2"]["arrays"] == sites["resid_post.1"]["arrays"]
    assert sites["resid_post.1"]["arrays"]["read"] == sites["resid_post.1"]["arrays"]["write"] == "resid_post.1/read"
    assert (sites["resid_post.4"]["norm"], sites["resid_post.4"]["radius"]) == ("cap", "plane")
    assert all(tensor is not mine for tensor in tensors.values() for mine in (*edit.tensors().values(), *plain.tensors().values()))
    again = unpack_edits(sites, tensors)
    assert list(again) == [Site(1, "resid_post"), READ, EDIT]
    assert torch.equal(again[EDIT].write, plain.write)
    angled, arrays = pack_edits({READ: edits.set_angle(torch.ones(3), degrees=20)})
    assert (unpack_edits(angled, arrays)[READ].radius, unpack_edits(angled, arrays)[READ].norm) == ("complement", "preserve")
    whole = {key: tensor.long() for key, tensor in tensors.items()}
    with pytest.raises(FileError, match="arrays of an edit are whole numbers; expected floating-point ones"):
        unpack_edits(sites, whole)
    with pytest.raises(FileError, match="unknown kind of edit 'lora'; it was written by a newer lenssteer"):
        unpack_edits({"resid_post.1": sites["resid_post.1"] | {"kind": "lora"}}, tensors)
