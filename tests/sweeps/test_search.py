"""Searches: against really run grids, killed and resumed, and part by part."""

import json
import math
import os
import random
import shutil
import signal
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenssteer.errors import FileError, MismatchError, ParameterError, SteeringError
from lenssteer.evals.divergence import Divergence, Reference
from lenssteer.evals.scoring import scorer_of
from lenssteer.models import Decoding, generate
from lenssteer.models.demo.world import requests
from lenssteer.prompts import hashes
from lenssteer.rows import wilson_interval
from lenssteer.sweeps import sweep_answers
from lenssteer.sweeps.search import CONSTRAINTS, Constraint, Goal, Plan, Space, read_result, run_search, trials
from lenssteer.sweeps.search.estimate import estimate

ANGLES = tuple(float(angle) for angle in range(0, 360, 10))
SPACE = Space.grid("degrees=0:360:10")
SHORT = Decoding(12)


def some(kind, n, seed=0):
    return random.Random(seed).sample([prompt.text for prompt in requests("selection", kind)], n)


@pytest.fixture(scope="module")
def steerers(norm_out):
    def of(method, sites):
        return lambda amounts: norm_out.steerer(method, degrees=amounts, sites=sites)

    return of


@pytest.fixture
def search(demo, steerers, tmp_path):
    def run(folder="run", space=SPACE, n=4, method="selective", **options):
        options = {"wanted": some("harmless", 8), "decoding": SHORT, **options}
        return run_search(demo, steerers(method, "discriminative"), space, some("harmful", n), tmp_path / folder, **options)

    return run


@pytest.fixture(scope="module")
def once(demo, steerers, tmp_path_factory):
    """One search, and its folder."""
    folder = tmp_path_factory.mktemp("once")
    return run_search(demo, steerers("selective", "discriminative"), SPACE, some("harmful", 4), folder,
                      wanted=some("harmless", 8), decoding=SHORT), folder


@pytest.mark.parametrize(("method", "sites"), [
    ("selective", "discriminative"), ("adaptive-angular", "all"),
    pytest.param("selective", "all", marks=pytest.mark.slow),
    pytest.param("standard-angular", "all", marks=pytest.mark.slow),
])
def test_the_best_angle_of_the_whole_grid_within_a_step_at_a_fifth_of_its_tokens(demo, steerers, tmp_path, method, sites):
    prompts, make, decoding = some("harmful", 20), steerers(method, sites), Decoding(20)
    with demo.metered() as whole:
        answers = sweep_answers(demo, make, ANGLES, prompts, decoding, batch_size=256)
        generate(demo, prompts, decoding)
    score = scorer_of(["answers", "repeated_ngrams", "empty"])
    means = {angle: {name: np.mean([v for v in values if v is not None]) for name, values in
                     score(prompts, answers[angle]).items()} for angle in ANGLES}
    kept = {a: m["answers"] for a, m in means.items() if m["repeated_ngrams"] <= 0.25 and m["empty"] <= 0.1}
    best = [angle for angle, share in kept.items() if share == max(kept.values())]
    found = run_search(demo, make, SPACE, prompts, tmp_path, wanted=some("harmless", 20), decoding=decoding)
    assert found.feasible
    assert min(min((found.amount - a) % 360, (a - found.amount) % 360) for a in best) <= 10
    assert found.cost["tokens"] <= whole.tokens / 5
    assert found.grid_tokens == pytest.approx(whole.tokens, rel=0.15)
    assert found.best.means["answers"] == pytest.approx(means[found.amount]["answers"])
    assert (found.best.low, found.best.high) == pytest.approx(wilson_interval(means[found.amount]["answers"], 20))
    assert found.seen == hashes(prompts)


def test_every_setting_is_told_with_the_stage_it_reached_and_no_cell_is_run_twice(once):
    found, folder = once
    assert [trial["amount"] for trial in found.trials] == list(ANGLES)
    assert {trial["state"] for trial in found.trials} == {"complete", "pruned"}
    for trial in found.trials:
        early = trial["why"].startswith("first token")
        assert set(trial["stages"]) == ({"0"} if early else {"0", "1", "2"})
        assert (trial["state"] == "complete") == (trial["amount"] in [one.amount for one in found.finalists])
    assert any(trial["why"].startswith("first token") for trial in found.trials if trial["amount"] in (0, 340, 350))
    lines = [json.loads(line) for line in (folder / "measured.jsonl").read_text().splitlines()]
    cells = [(row[0], row[1]) for line in lines if line["kind"] == "answers" for row in line["rows"]]
    assert len(cells) == len(set(cells))
    assert sum(line["cost"]["prompt"] + line["cost"]["generated"] for line in lines) == pytest.approx(
        found.cost["tokens"], abs=1e-2)
    assert "sorry" not in (folder / "measured.jsonl").read_text()
    assert read_result(folder) == found


def test_optuna_reads_the_journal(once):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    found, folder = once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = JournalFileBackend(str(folder / "trials.journal"))
        study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    assert len(study.trials) == 36
    assert study.best_value == max(one.means["answers"] for one in found.finalists)


def same(a, b):
    """Equal but for wall clock."""
    one, two = a.as_dict(), b.as_dict()
    for each in (one, two):
        each["cost"].pop("seconds")
    return one == two


def in_child(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("space", [SPACE, Space.range("degrees=0:360")], ids=["grid", "range"])
def test_a_search_killed_again_and_again_ends_like_one_that_was_not(search, tmp_path, space):
    plan = Plan(trials=14)
    started = time.monotonic()
    whole = search("whole", space, plan=plan)
    took, draw, killed = time.monotonic() - started, random.Random(1), 0
    for _ in range(3):
        pid = in_child(lambda: search("killed", space, plan=plan))
        time.sleep(draw.uniform(0.1, 0.8) * took)
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert killed
    assert same(search("killed", space, plan=plan), whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("write", [70, 95], ids=["before the second look", "while a batch is closed"])
def test_a_search_killed_at_a_write_of_its_journal_ends_like_one_that_was_not(search, monkeypatch, write):
    """The journal then holds stages that the search, replayed, has not come to yet."""
    plan, space, writes, append = Plan(trials=14), Space.range("degrees=0:360"), [], trials._append
    whole = search("whole", space, plan=plan)

    def counted(journal, logs):
        writes.append(len(logs))
        if len(writes) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        append(journal, logs)

    monkeypatch.setattr(trials, "_append", counted)
    pid = in_child(lambda: search("killed", space, plan=plan))
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    monkeypatch.undo()
    assert same(search("killed", space, plan=plan), whole)


@pytest.mark.parametrize("kept", [0, 1, 3, 40, 90, 120])
def test_a_journal_that_lost_its_end_is_written_again_from_what_was_measured(search, once, tmp_path, kept):
    """As a machine that lost power may leave it: nothing in it waits for the disk."""
    whole, folder = once
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    journal = tmp_path / "run" / "trials.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 120
    journal.write_bytes(b"".join(lines[:kept]))
    measured = (tmp_path / "run" / "measured.jsonl").read_bytes()
    assert same(search("run"), whole)
    assert (tmp_path / "run" / "measured.jsonl").read_bytes() == measured
    assert journal.read_bytes().count(b"\n") - len(lines) in (0, 1), "a study that is opened again is one line"


def test_torn_last_lines_are_dropped(search, once, tmp_path):
    whole, folder = once
    shutil.copytree(folder, tmp_path / "run")
    for name in ("measured.jsonl", "trials.journal"):
        path = tmp_path / "run" / name
        path.write_bytes(path.read_bytes()[:-7])
    assert same(search(), whole)


def test_a_second_process_is_refused_and_another_search_too(search, once, tmp_path):
    from filelock import FileLock

    shutil.copytree(once[1], tmp_path / "run")
    with FileLock(tmp_path / "run/lock"), pytest.raises(FileError, match="another process is searching"):
        search()
    with pytest.raises(MismatchError, match="prompts"):
        search(n=5)
    with pytest.raises(MismatchError, match="objective"):
        search(goal=Goal("on_form"))


def test_a_setting_that_breaks_a_constraint_never_wins_and_that_is_said_where_all_do(search):
    none = search("none", constraints=[Constraint.parse("words>=1000")])
    assert not none.feasible
    assert none.best.excess == min(one.excess for one in none.finalists) == pytest.approx(1000 - none.best.means["words"])
    kept = search("kept", constraints=[Constraint.parse("words<=7")], plan=Plan(share=0.5))
    assert kept.feasible == (kept.best.means["words"] <= 7)
    assert all(one.kept or not kept.feasible for one in kept.finalists[:1])


def test_kl_on_wanted_prompts_is_a_constraint(search, demo, norm_out):
    from lenssteer.evals.divergence import next_token_divergence

    found = search(constraints=[Constraint.parse("kl<=0.001")])
    expected = next_token_divergence(demo, norm_out.steerer("selective", degrees=found.amount), some("harmless", 8)).mean
    assert found.best.means["kl"] == pytest.approx(expected)
    assert found.feasible == (expected <= 0.001)
    with pytest.raises(ParameterError, match="--negative"):
        search("other", wanted=(), constraints=[Constraint.parse("kl<=1")])


def test_a_range_is_drawn_by_optuna_the_same_by_seed(demo, norm_out, tmp_path):
    def run(folder):
        return run_search(demo, lambda amounts: norm_out.steerer("addition", coefficient=amounts), Space.range("coefficient=-2:2"),
                          some("harmful", 6), tmp_path / folder, wanted=some("harmless", 8), decoding=SHORT, plan=Plan(trials=16))

    found = run("a")
    amounts = [trial["amount"] for trial in found.trials]
    assert amounts[:12] == pytest.approx(np.linspace(-2, 2, 12))
    assert len(set(amounts)) == 16
    assert all(-2 <= amount <= 2 for amount in amounts)
    assert found.best.means["answers"] > found.unsteered["answers"]
    assert same(run("b"), found)


def test_settings_that_break_the_model_fail_and_the_others_go_on(demo, norm_out, tmp_path):
    found = run_search(demo, lambda amounts: norm_out.steerer("addition", coefficient=amounts, norm="none"),
                       Space.grid("coefficient=-1,-0.5,1e38"), some("harmful", 4), tmp_path, goal=Goal("refused", up=False),
                       decoding=SHORT)
    assert [trial["state"] for trial in found.trials][-1] == "fail"
    assert "non-finite" in found.trials[-1]["why"]
    assert found.amount in (-1.0, -0.5)


@pytest.mark.parametrize("kind", ["raised", "infinite"])
def test_a_finalist_that_breaks_the_model_where_its_divergence_is_measured_fails(demo, norm_out, tmp_path, monkeypatch, kind):
    measured = Reference.divergence

    def divergence(self, steerer):
        if steerer.provenance["coefficient"] != -1:
            return measured(self, steerer)
        if kind == "raised":
            raise SteeringError("activations are not finite")
        return Divergence(torch.full((4,), float("inf"), dtype=torch.float64), 0.0, 1)

    monkeypatch.setattr(Reference, "divergence", divergence)

    def run():
        return run_search(demo, lambda amounts: norm_out.steerer("addition", coefficient=amounts), Space.grid("coefficient=-1,-0.5"),
                          some("harmful", 4), tmp_path, wanted=some("harmless", 4), goal=Goal("refused", up=False), decoding=SHORT,
                          constraints=[Constraint.parse("kl<=100")], plan=Plan(share=1.0))

    found = run()
    assert [trial["state"] for trial in found.trials] == ["fail", "complete"]
    assert found.amount == -0.5
    assert "not finite" in found.trials[0]["why"] if kind == "raised" else "KL divergence is inf" in found.trials[0]["why"]
    assert run().as_dict() == found.as_dict()


def test_a_setting_with_a_score_that_is_not_finite_fails_and_the_unsteered_model_says_so(demo, norm_out, tmp_path, monkeypatch):
    broken = []

    def scorer(*_args, **_options):
        return lambda prompts, answers: {"nll": [float("nan") if broken or len(prompts) < 3 else 1.0 for _ in prompts]}

    monkeypatch.setattr("lenssteer.sweeps.search.run.scorer_of", scorer)

    def run(folder):
        return run_search(demo, lambda amounts: norm_out.steerer("addition", coefficient=amounts), Space.grid("coefficient=-1,-0.5"),
                          some("harmful", 4), tmp_path / folder, goal=Goal("nll"), constraints=[], decoding=SHORT)

    assert [trial["state"] for trial in run("a").trials] == ["fail", "fail"]
    broken.append(1)
    with pytest.raises(SteeringError, match="unsteered: leave that score out"):
        run("b")


def test_sampled_answers_and_repeated_prompts_are_refused(search, demo, steerers, tmp_path):
    with pytest.raises(ParameterError, match="greedily"):
        search(decoding=Decoding(4, temperature=1.0))
    with pytest.raises(ParameterError, match="different prompts"):
        run_search(demo, steerers("selective", "all"), SPACE, ["a", "a"], tmp_path / "x")
    for wrong in ({"share": 0}, {"share": 1.1}, {"trials": 1}):
        with pytest.raises(ParameterError, match="share above 0"):
            Plan(**wrong)


@pytest.mark.parametrize(("text", "means", "unsteered", "excess"), [
    ("repeated_ngrams<=0.25", {"repeated_ngrams": 0.25}, {}, 0.0),
    ("repeated_ngrams<=0.25", {"repeated_ngrams": 0.75}, {}, 0.5),
    ("refused>=0.5", {"refused": 0.25}, {}, 0.25),
    ("nll<=unsteered+0.5", {"nll": 3.0}, {"nll": 2.0}, 0.5),
    ("nll <= unsteered", {"nll": 2.0}, {"nll": 2.0}, 0.0),
    ("nll<=unsteered-1", {"nll": 2.0}, {"nll": 2.0}, 1.0),
    ("kl<=0.5", {}, {}, math.inf),
    ("answers>=0.5", {"answers": None}, {}, math.inf),
])
def test_constraints_are_read_and_measured(text, means, unsteered, excess):
    one = Constraint.parse(text)
    assert one.excess(means, unsteered) == pytest.approx(excess)
    assert Constraint.parse(str(one)) == one


@pytest.mark.parametrize("text", ["", "nll", "nll<=", "nll<2", "sense<=1", "kl<=unsteered+1", "nll<=1.2.3", "nll<=unsteered1"])
def test_other_constraints_are_refused(text):
    with pytest.raises(ParameterError, match="cannot read the constraint"):
        Constraint.parse(text)


def test_objectives_are_read():
    assert Goal.parse("answers") == Goal("answers")
    assert Goal.parse("refused:down").merit(0.25) == -0.25
    assert str(Goal.parse("refused:down")) == "refused:down"
    for wrong in ("sense", "refused:sideways", ""):
        with pytest.raises(ParameterError, match="cannot read the objective"):
            Goal.parse(wrong)
    assert all(Constraint.parse(text).above for text in CONSTRAINTS)


def test_spaces_are_read_and_full_circles_close():
    assert SPACE.closed
    assert SPACE.gap == 30
    assert SPACE.values == ANGLES
    assert not Space.grid("degrees=0:180:10").closed
    assert not Space.grid("coefficient=0:360:10").closed
    assert Space.range("degrees=-180:180").closed
    for wrong in ("coefficient=0", "coefficient=1,1", "coefficient"):
        with pytest.raises(ParameterError):
            Space.grid(wrong)
    for wrong in ("coefficient=1:0", "coefficient=0:inf", "coefficient=0:1:2", "=0:1"):
        with pytest.raises(ParameterError, match="cannot read the range"):
            Space.range(wrong)


@given(st.floats(0, 360), st.floats(0, 360))
def test_a_circle_has_no_seam(a, b):
    assert SPACE.distance(a, b) == pytest.approx(SPACE.distance(a + 17, b + 17), abs=1e-6)
    assert SPACE.distance(a, b) <= 180
    likeness = SPACE.likeness([a], [b, b + 360])
    assert likeness[0, 0] == pytest.approx(likeness[0, 1])


@given(st.lists(st.sampled_from(ANGLES), min_size=1, max_size=36, unique=True))
def test_spread_settings_are_apart_and_cover_the_rest(amounts):
    kept = SPACE.spread(amounts, 30)
    assert kept[0] == amounts[0]
    assert all(SPACE.distance(a, b) >= 30 for a in kept for b in kept if a != b)
    assert all(min(SPACE.distance(a, b) for b in kept) < 30 for a in amounts)


def test_the_estimate_is_the_posterior_mean_of_the_stated_process():
    """Oracle: the joint covariance over all settings and prompts, conditioned entry by entry, averaged over prompts."""
    rng, n, amounts = np.random.default_rng(0), 5, [0.0, 40.0, 100.0, 350.0]
    moved = {a: float(m) for a, m in zip(amounts, rng.uniform(-1, 1, 4), strict=True)}
    cells = {(a, i): float(rng.integers(2)) for a in amounts[:3] for i in range(3)}
    everything = [(a, i) for a in amounts for i in range(n)]

    def cov(p, q):
        turn = math.radians(p[0] - q[0])
        k = math.exp((math.cos(turn) - 1) / math.radians(40) ** 2)
        s = math.exp(-((moved[p[0]] - moved[q[0]]) ** 2) / (2 * 0.2**2))
        return 0.05 * k + 0.06 * s + (p[1] == q[1]) * (0.05 * k + 0.1)

    values = np.array(list(cells.values()))
    gram = np.array([[cov(p, q) + 0.02 * (p == q) for q in cells] for p in cells])
    cross = np.array([[cov(p, q) for q in cells] for p in everything])
    posterior = values.mean() + cross @ np.linalg.inv(gram) @ (values - values.mean())
    expected = posterior.reshape(4, n).mean(1)
    assert list(estimate(SPACE, amounts, cells, n, moved).values()) == pytest.approx(expected.tolist())


def test_an_estimate_of_equal_values_is_that_value():
    assert estimate(SPACE, [0.0, 180.0], {(0.0, 0): 1.0, (90.0, 1): 1.0}, 4) == {0.0: 1.0, 180.0: 1.0}
