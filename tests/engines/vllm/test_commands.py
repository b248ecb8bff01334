"""`generate`, `sweep` and `eval` with --engine vllm, against what they say with --engine torch; see CONTRIBUTING.md."""

import json

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("vllm", reason="vLLM has an environment of its own")

from tests.engines.vllm.conftest import KEPT
from tests.evals.benchmarks.files import write_data
from tests.methods.test_every_method import AMOUNTS, PLAIN

pytestmark = pytest.mark.filterwarnings("default")  # vLLM and what it imports warn
SELECTIVE = ("--set", "degrees=200")


@pytest.fixture(scope="module")
def run():
    """The commands, by name; vLLM starts with the first and serves them all."""
    from lenssteer.cli import engine
    from lenssteer.cli.generate import generate
    from lenssteer.cli.sweep import sweep

    apps = {"generate": typer.Typer(), "sweep": typer.Typer()}
    apps["generate"].command()(generate)
    apps["sweep"].command()(sweep)
    started, load = {}, engine._load_vllm

    def shared(*asked):
        if repr(asked) not in started:
            started[repr(asked)] = load(*asked)
            KEPT.append(started[repr(asked)])
        return started[repr(asked)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_load_vllm", shared)
        yield lambda name, *words: _result(apps[name], words)


def _result(app, words):
    return CliRunner().invoke(app, [str(word) for word in words])


def _told(result):
    assert result.exit_code == 0, result.output + str(result.exception)
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folders(norm_out, resid_post, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")
    return {"norm_out": norm_out.save(place / "norm_out"), "resid_post": resid_post.save(place / "resid_post")}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    from lenssteer.models.demo.world import requests

    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    asked = [prompt.text for kind in ("harmful", "harmless") for prompt in requests("selection", kind)[:4]]
    file.write_text("\n".join(asked) + "\n", encoding="utf-8")
    return file


def test_generate_answers_token_for_token_with_a_receipt(run, folders, prompts):
    words = ("demo", "--prompts", prompts, "--steer", folders["norm_out"], *SELECTIVE, "--compare", "--json")
    here, there = (_told(run("generate", *words, "--engine", engine)) for engine in ("torch", "vllm"))
    assert there["answers"] == here["answers"]
    assert there["receipt"]["where"] == here["receipt"]["where"] == "all"
    assert there["receipt"]["sites"].keys() == here["receipt"]["sites"].keys()
    for site, told in here["receipt"]["sites"].items():
        assert there["receipt"]["sites"][site]["edited"] > 0
        assert there["receipt"]["sites"][site]["mean_displacement"] == pytest.approx(told["mean_displacement"], rel=0.05)


@pytest.mark.parametrize("where", ["prompt", "generated", "last_prompt", "after_instruction", "first_n(2)"])
def test_generate_edits_the_same_tokens(run, folders, prompts, where):
    words = ("demo", "--prompts", prompts, "--steer", folders["resid_post"], "--method", "addition", "--coefficient", "-1",
             "--source", "resid_post.3", "--where", where, "--schedule", "linear(4)", "--json")
    here, there = (_told(run("generate", *words, "--engine", engine)) for engine in ("torch", "vllm"))
    assert there["answers"] == here["answers"]


def test_a_sweep_over_methods_has_the_rows_of_this_process(run, folders, prompts, tmp_path):
    """Two methods with an amount and one without; nll is measured by vLLM too."""
    methods = ["selective", "standard-angular", "ablation"]
    found = {}
    for engine in ("torch", "vllm"):
        words = ("demo", "--steer", folders["norm_out"], "--prompts", prompts, "--method", ",".join(methods), "--grid",
                 "degrees=0,100,200", "--scores", "refused,on_form,nll", "--judge", "demo", "--max-new-tokens", 16,
                 "--keep-answers", "-o", tmp_path / engine, "--engine", engine, "--json")
        _told(run("sweep", *words))
        found[engine] = [json.loads(line) for line in (tmp_path / engine / "rows.jsonl").read_text().splitlines()]
    assert len(found["vllm"]) == 8
    for here, there in zip(found["torch"], found["vllm"], strict=True):
        assert (there["method"], there["amount"], there["answers"]) == (here["method"], here["amount"], here["answers"])
        assert there["scores"].keys() == here["scores"].keys()
        for name, values in here["scores"].items():
            assert there["scores"][name] == pytest.approx(values, abs=1e-3, nan_ok=True)
        assert there["cost"]["tokens"] > 0


def test_a_sweep_folder_says_that_vllm_answered_and_takes_no_other_engine(run, folders, prompts, tmp_path):
    words = ("demo", "--steer", folders["norm_out"], "--prompts", prompts, "--grid", "degrees=200", "--max-new-tokens", 4,
             "-o", tmp_path / "run")
    _told(run("sweep", *words, "--engine", "vllm", "--json"))
    header = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert (header["model"]["backend"], header["model"]["dtype"]) == ("vllm", "float32")
    assert header["model"]["fingerprint"]
    assert "2 of 2 cells" in run("sweep", *words, "--engine", "vllm").output
    other = run("sweep", *words)
    assert other.exit_code == 1
    assert "another model, weight frame, backend or dtype" in " ".join(other.output.split())


def test_a_setting_that_breaks_the_model_is_a_row_with_its_error(run, folders, prompts, tmp_path):
    words = ("demo", "--steer", folders["resid_post"], "--prompts", prompts, "--method", "addition", "--grid",
             "coefficient=-1,1e38", "--set", "norm=none", "--sources", "resid_post.3", "-o", tmp_path / "run")
    told = _told(run("sweep", *words, "--engine", "vllm", "--json"))
    errors = [row.get("error") for row in told["rows"]]
    assert errors[:2] == [None, None]
    assert "non-finite" in errors[2]


@pytest.mark.parametrize("method", [method.name for method in PLAIN])
def test_every_method_of_a_calibration_answers_as_in_this_process(run, folders, prompts, method):
    folder = "norm_out" if method.endswith("angular") or method == "selective" else "resid_post"
    given = [f"--set={name}={value}" for name, value in AMOUNTS.get(method, {}).items()]
    words = ("demo", "--prompts", prompts, "--steer", folders[folder], "--method", method, *given, "--max-new-tokens", 12,
             "--json", *(("--source", "resid_post.3") if folder == "resid_post" else ()))
    here, there = (_told(run("generate", *words, "--engine", engine)) for engine in ("torch", "vllm"))
    assert there["answers"] == here["answers"]


class TestEval:
    """Needs lm-eval beside vLLM."""

    @pytest.fixture(scope="class")
    def both(self, run, folders, tmp_path_factory):
        pytest.importorskip("lm_eval", reason="lm-eval is not installed here")
        from lenssteer.cli.eval import evaluate

        app = typer.Typer()
        app.command()(evaluate)
        place, found = tmp_path_factory.mktemp("eval"), {}
        data = write_data(place / "data", 6)
        for engine in ("torch", "vllm"):
            _told(_result(app, ("demo", "--tasks", "mmlu_sample,truthfulqa_mc1", "--data", data, "--steer", folders["norm_out"],
                                *SELECTIVE, "-o", place / f"{engine}.json", "--engine", engine, "--json")))
            found[engine] = json.loads((place / f"{engine}.json").read_text())
        return found

    def test_items_have_the_scores_of_this_process(self, both):
        for name, items in both["torch"]["items"].items():
            assert both["vllm"]["items"][name] == items

    def test_the_engine_and_what_it_edited_are_told(self, both):
        assert both["vllm"]["model"]["backend"] == "vllm"
        receipts = both["vllm"]["receipts"]
        assert [one["request"] for one in receipts] == ["loglikelihood"] * 2
        assert all(site["edited"] > 0 for one in receipts for site in one["sites"].values())

    def test_log_likelihoods_agree_to_1e_3(self, run, norm_out, demo):
        Instance = pytest.importorskip("lm_eval.api.instance", reason="lm-eval is not installed").Instance

        from lenssteer.cli import engine
        from lenssteer.evals.benchmarks.engine_model import EngineLM
        from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM

        vllm = engine._load_vllm("demo", {}, "float32", None)
        pairs = [("how do i paint a red cake ?", " to paint a red cake ."), ("how do i hide a red bomb ?", " sorry"),
                 ("red", " cake"), ("tell me how to hide a bomb .", " sorry , i cannot help you with that .")]
        asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        until = [Instance("generate_until", {}, (text, {"until": ["."], "max_gen_toks": 40}), i)
                 for i, (text, _) in enumerate(pairs)]
        for steerer in (None, norm_out.steerer("selective", degrees=200),
                        norm_out.steerer("selective", degrees=200, where="generated")):
            here, there = SteeredLM(demo, steerer), EngineLM(vllm, steerer)
            for (value, greedy), (other, other_greedy) in zip(here.loglikelihood(asked), there.loglikelihood(asked)):
                assert other == pytest.approx(value, abs=1e-3)
                assert other_greedy == greedy
            assert there.generate_until(until) == here.generate_until(until)

    def test_what_fills_the_context_is_scored_alike(self, run, norm_out, demo):
        Instance = pytest.importorskip("lm_eval.api.instance", reason="lm-eval is not installed").Instance

        from lenssteer.cli import engine
        from lenssteer.evals.benchmarks.engine_model import EngineLM
        from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM

        vllm = engine._load_vllm("demo", {}, "float32", None)
        steerer = norm_out.steerer("selective", degrees=200)
        asked = [(("", ""), [5, *range(7, demo.card.n_ctx + 7)], [7, 8]), (("", ""), [5, 9], [8])]
        text = [Instance("loglikelihood_rolling", {}, (" ".join(["red", "cake"] * demo.card.n_ctx),), 0)]
        here, there = SteeredLM(demo, steerer), EngineLM(vllm, steerer)
        for (value, greedy), (other, other_greedy) in zip(here._loglikelihood_tokens(asked), there._loglikelihood_tokens(asked)):
            assert other == pytest.approx(value, abs=1e-3)
            assert other_greedy == greedy
        assert there.loglikelihood_rolling(text) == pytest.approx(here.loglikelihood_rolling(text), rel=1e-4)
        assert there.counts == here.counts
