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
from lenssteer.site import Site
from lenssteer.steering import Condition, Schedule, Steerer, Where, fit_condition
from lenssteer.steering.gatekeeper import ConditionReader

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
