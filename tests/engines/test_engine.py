"""What the library asks of an engine: the answers of the in-process path, with nothing but the protocol."""

import json
from dataclasses import replace

import pytest

from lenssteer.engines.engine import Engine
from lenssteer.errors import MismatchError, SiteError
from lenssteer.evals.benchmarks import measure_capability
from lenssteer.evals.scoring import scorer_of
from lenssteer.models import Decoding, LensModel
from lenssteer.models.demo.world import requests
from lenssteer.site import Site
from lenssteer.steering import Steerer
from lenssteer.sweeps import Grid, run_sweep
from tests.engines.behind import Behind
from tests.evals.benchmarks.files import write_data

ASKED = [prompt.text for kind in ("harmful", "harmless") for prompt in requests("selection", kind)[:3]]
DECODING = Decoding(8)


@pytest.fixture
def engine(demo):
    return Behind(demo)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def test_an_engine_is_no_lens_model_and_a_lens_model_no_engine(demo, engine):
    assert isinstance(engine, Engine)
    assert not isinstance(engine, LensModel)
    assert not isinstance(demo, Engine)


def test_a_steerer_is_compared_with_an_engine(engine, norm_out):
    steerer = norm_out.steerer("selective", degrees=200)
    steerer.check(engine)
    with pytest.raises(SiteError, match=r"asked for ln1_out\.99"):
        Steerer({Site(99, "ln1_out"): steerer.edits[steerer.sites[0]]}).check(engine)
    engine.card = replace(engine.card, fingerprint="0" * 16)
    with pytest.raises(MismatchError, match="other weights"):
        steerer.check(engine)


@pytest.mark.parametrize("batch_size", [None, 12])
def test_a_sweep_has_the_rows_of_this_process(demo, engine, norm_out, tmp_path, batch_size):
    names = ("refused", "repeats", "nll")
    grids = [Grid("selective", (20.0, 180.0, 200.0), decoding=DECODING), Grid("ablation", decoding=DECODING),
             Grid("addition", (-1.0, 1e38), settings={"norm": "none"}, decoding=DECODING)]
    both = [run_sweep(model, norm_out, grids, ASKED, tmp_path / str(i), scorer_of(names, model=model), measure="m",
                      batch_size=batch_size, keep_answers=True) for i, model in enumerate((demo, engine))]
    assert [row.answers for row in both[0]] == [row.answers for row in both[1]]
    for row, other in zip(*both, strict=True):
        for name in row.scores:
            assert row.scores[name] == pytest.approx(other.scores[name], abs=1e-4)
    assert "non-finite" in both[1][-1].error
    assert both[1][-1].error == both[0][-1].error
    assert {"answers", "log_likelihoods"} == set(engine.calls)


def test_a_sweep_folder_says_what_answered(demo, engine, norm_out, tmp_path):
    """The card and the dtype are the engine's own, and another engine's run is refused there."""
    engine.card = replace(engine.card, backend="elsewhere")
    engine.dtype = "bfloat16"
    grid = Grid("ablation", decoding=DECODING)
    run_sweep(engine, norm_out, grid, ASKED[:2], tmp_path, scorer_of(["words"]), measure="words")
    header = json.loads((tmp_path / "sweep.json").read_text())
    assert (header["model"]["backend"], header["model"]["dtype"]) == ("elsewhere", "bfloat16")
    assert header["card"]["backend"] == "elsewhere"
    with pytest.raises(MismatchError, match="backend or dtype"):
        run_sweep(demo, norm_out, grid, ASKED[:2], tmp_path, scorer_of(["words"]), measure="words")


def test_capability_is_that_of_this_process(demo, engine, norm_out, data):
    steerer = norm_out.steerer("selective", degrees=200)
    tasks = ("mmlu_sample", "truthfulqa_mc2")
    here, there = (measure_capability(model, tasks, steerer, data=data, limit=6) for model in (demo, engine))
    for name, items in here["items"].items():
        assert there["items"][name]["ids"] == items["ids"]
        for setting in ("unsteered", "steered"):
            assert there["items"][name][setting] == pytest.approx(items[setting], abs=1e-5)
    assert set(engine.calls) == {"log_likelihoods"}
    assert [receipt["request"] for receipt in there["receipts"]] == ["loglikelihood"] * len(tasks)
    assert all(site["edited"] > 0 for receipt in there["receipts"] for site in receipt["sites"].values())


def test_answers_until_a_text_are_those_of_this_process(demo, engine, norm_out):
    from lm_eval.api.instance import Instance

    from lenssteer.evals.benchmarks.engine_model import EngineLM
    from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM

    steerer = norm_out.steerer("selective", degrees=200)
    asked = [Instance("generate_until", {}, (text, {"until": until, "max_gen_toks": 40}), i)
             for i, (text, until) in enumerate(zip(ASKED, [["."], [",", "."], ["nowhere"]] * 2, strict=True))]
    for under in (None, steerer):
        here, there = SteeredLM(demo, under), EngineLM(engine, under)
        assert there.generate_until(asked) == here.generate_until(asked)
        assert there.counts == here.counts
        assert bool(there.receipts) == (under is not None)


def test_sampled_answers_go_on_as_they_began(demo, engine):
    """Of several rounds each begins with the answer of the one before, row by row."""
    from lenssteer.evals.benchmarks.answering import answer_until
    from lenssteer.evals.benchmarks.engine_model import EngineLM

    prompts, decoding, rows = engine.encode(ASKED), Decoding(40, 1.0, seed=5), [7, 3, 9, 1, 4, 2]
    expected = answer_until(demo, prompts, ("nowhere",), decoding, rows=rows)
    assert EngineLM(engine).drawn(prompts, ("nowhere",), decoding, rows) == expected


def test_what_fills_the_context_is_scored_alike(demo, engine):
    from lm_eval.api.instance import Instance

    from lenssteer.evals.benchmarks.engine_model import EngineLM
    from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM

    there, here = EngineLM(engine), SteeredLM(demo)
    asked = [(("", ""), [5, *range(7, demo.card.n_ctx + 7)], [7, 8])]
    text = [Instance("loglikelihood_rolling", {}, (" ".join(["red", "cake"] * demo.card.n_ctx),), 0)]
    for one in (there, here):
        one.found = [*one._loglikelihood_tokens(asked), *one.loglikelihood_rolling(text)]
    assert there.found[0] == pytest.approx(here.found[0], abs=1e-4)
    assert there.found[1] == pytest.approx(here.found[1], abs=1e-2)
    assert there.counts == here.counts
    assert there.counts["shortened"] == 1
