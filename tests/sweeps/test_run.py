import json
from dataclasses import asdict, replace

import pytest

from lenssteer.errors import FileError, MismatchError, ParameterError
from lenssteer.models import Decoding, generate, load_model
from lenssteer.sweeps import CellRow, Grid, read_cells, read_run, run_sweep

GREEDY, SAMPLED = Decoding(6), Decoding(6, temperature=0.9, seed=3)
ANGLES = (0, 60, 150, 330)


def words(_prompts, answers):
    """A score that differs from answer to answer."""
    return {"words": [len(answer.split()) if answer else None for answer in answers]}


@pytest.fixture
def sweep(demo, norm_out, asked, tmp_path):
    def run(name="run", grid=None, score=words, **options):
        grid = grid or Grid("selective", ANGLES, decoding=GREEDY)
        options = {"measure": "words", "batch_size": 16, "prompts": asked, "calibration": norm_out, "model": demo,
                   **options}
        return run_sweep(grid=grid, score=score, folder=tmp_path / name, **options)

    return run


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED])
def test_rows_hold_what_each_setting_gives_by_itself(demo, norm_out, asked, sweep, decoding):
    rows = sweep(grid=Grid("selective", ANGLES, decoding=decoding), keep_answers=True)
    assert [row.amount for row in rows] == [None, *ANGLES]
    assert rows[0].answers == generate(demo, asked, decoding)
    for row in rows[1:]:
        with norm_out.steerer("selective", degrees=row.amount).on(demo):
            assert row.answers == generate(demo, asked, decoding)
    for row in rows:
        expected = [len(answer.split()) if answer else None for answer in row.answers]
        assert row.scores == {"words": expected}
        assert row.mean("words") == pytest.approx(sum(n for n in expected if n is not None) / row.scored("words"))


def test_a_method_without_an_amount_is_swept_over_sources(demo, norm_out, asked, sweep):
    rows = sweep(grid=Grid("ablation", sources=("ln1_out.1", "ln2_out.5"), decoding=GREEDY), keep_answers=True)
    for row in rows[1:]:
        with norm_out.steerer("ablation", source=row.source).on(demo):
            assert row.answers == generate(demo, asked, GREEDY)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED])
def test_a_run_cut_anywhere_goes_on_to_the_same_rows(sweep, timeless, tmp_path, decoding):
    grid = Grid("selective", ANGLES, decoding=decoding)
    sweep("whole", grid)
    whole, rows = (tmp_path / "whole/rows.jsonl").read_bytes(), timeless(tmp_path / "whole")
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    assert len(ends) == 1 + len(ANGLES)
    for cut in (1, ends[1] + 40, ends[-1] - 1):
        (tmp_path / "whole/rows.jsonl").write_bytes(whole[:cut])
        done = sum(end <= cut for end in ends)
        assert len(read_cells(tmp_path / "whole")) == done
        scored = []
        sweep("whole", grid, score=lambda prompts, answers, log=scored: log.append(1) or words(prompts, answers))
        assert len(scored) == len(ends) - done
        assert timeless(tmp_path / "whole") == rows


def test_rows_do_not_depend_on_how_settings_share_batches_but_for_their_cost(sweep):
    alone, together = ([replace(row, cost=None, batch=None) for row in sweep(f"by {size}", batch_size=size)]
                       for size in (6, 64))
    assert alone == together


def test_the_costs_of_cells_add_up_to_what_passed_through_the_model(demo, sweep, asked):
    for size in (6, 64):
        with demo.metered() as cost:
            rows = sweep(f"by {size}", batch_size=size)
        prompt = sum(len(one.ids) for one in demo.encode(asked[:1]))  # one more pass tells the dtype
        total = {name: sum(row.cost[name] for row in rows) for name in ("tokens", "prompt_tokens", "generated_tokens", "passes")}
        assert total["tokens"] == pytest.approx(cost.tokens - prompt, abs=0.01)
        assert total["prompt_tokens"] == pytest.approx(cost.prompt - prompt, abs=0.01)
        assert total["passes"] == pytest.approx(cost.passes - 1, abs=0.01)
        assert {row.cost["cells"] for row in rows} == {1 if size == 6 else 5}
        assert len({row.batch for row in rows}) == (5 if size == 6 else 1)


def test_settings_that_share_a_batch_cost_less(sweep):
    alone, together = (sum(row.cost["prompt_tokens"] for row in sweep(f"by {size}", batch_size=size)) for size in (6, 64))
    assert together < alone


def test_the_header_says_what_measured_and_which_lenssteer(sweep, tmp_path):
    from importlib.metadata import version

    sweep(scores=("words",), judge="nobody")
    header = read_run(tmp_path / "run")[0]
    assert (header["scores"], header["judge"], header["lenssteer"]) == (["words"], "nobody", version("lenssteer"))
    assert header["format"] == 2


def test_a_folder_of_format_1_is_read_and_goes_on(sweep, tmp_path):
    rows = sweep()
    path = tmp_path / "run"
    header = json.loads((path / "sweep.json").read_text())
    old = {name: value for name, value in header.items() if name not in ("scores", "judge", "lenssteer")} | {"format": 1}
    (path / "sweep.json").write_text(json.dumps(old))
    lines = [json.dumps({name: value for name, value in row.as_dict().items() if name not in ("cost", "batch")})
             for row in rows[:2]]
    (path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    assert [row.cost for row in read_run(path)[1]] == [None, None]
    again = sweep()
    assert [row.scores for row in again] == [row.scores for row in rows]
    assert [row.cost is None for row in again] == [True, True, False, False, False]


def test_grids_of_several_methods_and_sites_share_batches(demo, norm_out, asked, sweep):
    """Every row is what its setting gives by itself."""
    sites = tuple(map(str, norm_out.sites[6:9]))
    grids = [Grid("selective", (60, 200), decoding=GREEDY), Grid("selective", (60,), sites=sites, decoding=GREEDY),
             Grid("standard-angular", (150,), decoding=GREEDY), Grid("addition", (-1, 0.5), sources=sites[:2], decoding=GREEDY),
             Grid("ablation", where="generated", decoding=GREEDY)]
    rows = sweep(grid=grids, batch_size=64, keep_answers=True)
    assert len(rows) == 10
    assert {row.cost["cells"] for row in rows} == {10}
    for row in rows[1:]:
        amount = {} if row.amount is None else {row.amount_name: row.amount}
        with norm_out.steerer(row.method, sites=row.sites, source=row.source, where=row.where, **amount).on(demo):
            assert row.answers == generate(demo, asked, GREEDY), row.label


def test_a_finished_run_is_not_run_again(sweep):
    rows = sweep()
    assert sweep(score=lambda *_: pytest.fail("a finished cell was run")) == rows


def test_a_folder_grows_by_further_grids_and_counts_their_cells(sweep, tmp_path):
    first = sweep()
    more = sweep(grid=Grid("selective", (*ANGLES, 90), decoding=GREEDY))
    assert more[:-1] == first
    other = sweep(grid=Grid("standard-angular", (90,), decoding=GREEDY))
    assert other[0] == first[0]
    header, rows = read_run(tmp_path / "run")
    assert header["cells"] == [row.cell for row in rows] == [row.cell for row in (*more, other[1])]


def test_answers_are_written_only_on_request(sweep, tmp_path):
    answers = sweep("kept", keep_answers=True)[0].answers
    rows = sweep("plain")
    assert all(row.answers is None for row in rows)
    text = (tmp_path / "plain/rows.jsonl").read_text() + (tmp_path / "plain/sweep.json").read_text()
    assert not any(answer in text for answer in answers)
    assert json.dumps(answers[0])[1:-1] in (tmp_path / "kept/rows.jsonl").read_text()


def test_prompts_are_recorded_by_hash_only(sweep, asked, tmp_path):
    from lenssteer.prompts import hashes

    sweep()
    header = read_run(tmp_path / "run")[0]
    assert header["seen"] == hashes(asked)
    assert not any(prompt in (tmp_path / "run/sweep.json").read_text() for prompt in asked)


def test_another_model_calibration_or_prompt_set_is_refused(sweep, asked, norm_out, tmp_path):
    rows = sweep()
    before = (tmp_path / "run/rows.jsonl").read_bytes()
    wide = load_model("demo", backend="hf", dtype="float64", check=False)
    for change, said in (({"prompts": asked[::-1]}, "another prompt set"), ({"measure": "letters"}, "another measure"),
                         ({"calibration": norm_out.at_source("ln1_out.5")}, "another calibration"),
                         ({"template": "x {prompt}"}, "another prompt format"), ({"model": wide}, "dtype"),
                         ({"keep_answers": True}, "keeping answers")):
        with pytest.raises(MismatchError, match=said):
            sweep(**change)
    header = json.loads((tmp_path / "run/sweep.json").read_text())
    changed = {**header, "model": {**header["model"], "fingerprint": "0" * 16}}
    (tmp_path / "run/sweep.json").write_text(json.dumps(changed))
    with pytest.raises(MismatchError, match="another model"):
        sweep()
    (tmp_path / "run/sweep.json").write_text(json.dumps(header))
    assert sweep() == rows
    assert (tmp_path / "run/rows.jsonl").read_bytes() == before


def test_a_calibration_of_another_model_is_refused_before_a_folder_is_made(sweep, norm_out, tmp_path):
    foreign = replace(norm_out, card=replace(norm_out.card, fingerprint="0" * 16))
    with pytest.raises(MismatchError, match="other weights"):
        sweep(calibration=foreign)
    assert not (tmp_path / "run").exists()


def test_a_setting_that_breaks_the_model_gets_its_error_and_the_others_go_on(sweep, tmp_path):
    grid = Grid("addition", (-1, 1e38, 0), decoding=GREEDY)
    rows = sweep(grid=grid, batch_size=64)
    assert {row.cost["cells"] for row in rows} == {4}
    assert ["non-finite" in (row.error or "") for row in rows] == [False, False, True, False]
    assert rows[2].scores == {}
    assert rows[2].mean("words") is None
    assert rows[3].scores == rows[0].scores
    assert read_cells(tmp_path / "run") == rows


def test_scores_are_one_number_a_prompt(sweep):
    with pytest.raises(ParameterError, match="one finite number a prompt"):
        sweep(score=lambda _prompts, _answers: {"s": [1.0]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_a_recorded_failure_and_the_others_go_on(sweep, asked, tmp_path, value):
    seen = []

    def score(_prompts, answers):
        seen.append(answers)
        return {"s": [value if len(seen) == 2 and i == 1 else 1.0 for i in range(len(answers))]}

    rows = sweep(score=score, keep_answers=True)
    failed = [row for row in rows if row.error]
    assert len(failed) == 1
    assert f"the score s is {value} at 1 of {len(asked)} prompts" in failed[0].error
    assert (failed[0].scores, failed[0].answers) == ({}, None)
    assert all(row.scores == {"s": [1.0] * len(asked)} for row in rows if not row.error)
    assert read_cells(tmp_path / "run") == rows
    assert sweep(score=lambda *_: pytest.fail("nothing is left to score"), keep_answers=True) == rows


def test_unscored_answers_never_enter_a_mean():
    cell = Grid("ablation", decoding=GREEDY)._unsteered()
    row = CellRow.of(asdict(cell), "0", 3, {"s": [1.0, None, 0.0], "none": [None] * 3})
    assert (row.mean("s"), row.scored("s"), row.mean("none"), row.scored("none")) == (0.5, 2, None, 0)
    assert row.summary()["means"] == {"s": 0.5, "none": None}


def test_a_sweep_needs_prompts_and_a_batch(sweep):
    for change in ({"prompts": []}, {"batch_size": 0}):
        with pytest.raises(ParameterError, match="a sweep needs prompts"):
            sweep(**change)


def test_damaged_and_foreign_folders_are_refused(sweep, tmp_path):
    sweep()
    rows = tmp_path / "run/rows.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    for second in (b"{\n", b"[]\n", b'{"cell": "x"}\n', b"\xff\n"):
        rows.write_bytes(b"".join([lines[0], second, *lines[2:]]))
        with pytest.raises(FileError, match="damaged"):
            sweep()
    (tmp_path / "run/sweep.json").unlink()
    with pytest.raises(FileError, match=r"no sweep\.json"):
        sweep()
    with pytest.raises(FileError, match="holds no sweep"):
        read_run(tmp_path / "run")
    (tmp_path / "run/sweep.json").write_text('{"kind": "sweep", "cells": [], "format": 3}')
    with pytest.raises(MismatchError, match="format version 3"):
        sweep()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        sweep("file")
