"""`--engine` by its real options: what it asks of an engine, and what is refused before anything is loaded."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tests.engines.behind import Behind
from tests.evals.benchmarks.files import write_data

TO_200 = ("--set", "degrees=200")


@pytest.fixture(scope="module")
def run():
    from lenssteer.cli.eval import evaluate
    from lenssteer.cli.generate import generate
    from lenssteer.cli.sweep import sweep

    apps = {}
    for name, command in {"generate": generate, "sweep": sweep, "eval": evaluate}.items():
        apps[name] = typer.Typer(pretty_exceptions_enable=False)
        apps[name].command()(command)
    return lambda name, *words: CliRunner().invoke(apps[name], [str(word) for word in words])


@pytest.fixture(scope="module")
def place(norm_out, tmp_path_factory):
    from lenssteer.models.demo.world import requests

    folder = tmp_path_factory.mktemp("engine")
    norm_out.save(folder / "c")
    write_data(folder / "data", 6)
    asked = [prompt.text for kind in ("harmful", "harmless") for prompt in requests("selection", kind)[:2]]
    (folder / "prompts.txt").write_text("\n".join(asked) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def vllm(demo, monkeypatch):
    """A LensModel in its place, and how it was asked for."""
    from lenssteer.engines.vllm import loading, versions

    asked = []

    def load_vllm(name, **given):
        asked.append((name, given))
        if "max_model_length" in given:
            raise TypeError("unexpected keyword argument 'max_model_length'")
        return Behind(demo)

    monkeypatch.setattr(versions, "require_vllm", lambda: "0.32.0")
    monkeypatch.setattr(loading, "load_vllm", load_vllm)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    return asked


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("more", [(), ("--compare",)])
def test_generate_gives_the_answers_and_the_receipt_of_the_engine(run, place, vllm, more):
    words = ("demo", "--prompts", place / "prompts.txt", "--steer", place / "c", *TO_200, "--max-new-tokens", 12, "--json",
             *more)
    here = told(run("generate", *words, "--backend", "hf"))
    there = told(run("generate", *words, "--engine", "vllm", "--engine-set", "max_model_len=64", "--engine-set",
                     "enforce_eager=true", "--dtype", "bfloat16"))
    assert there == here
    [(name, given)] = vllm
    assert name == "demo"
    assert (given["max_model_len"], given["enforce_eager"], given["dtype"]) == (64, True, "bfloat16")


def test_generate_without_a_steerer_has_no_receipt(run, vllm):
    found = told(run("generate", "demo", "repeat : cake kite", "--engine", "vllm", "--json"))
    assert list(found["answers"][0]) == ["prompt", "unsteered"]
    assert found["receipt"] is None


def test_a_sweep_is_run_by_the_engine(run, place, vllm, tmp_path):
    rows = {}
    for engine in ("torch", "vllm"):
        told(run("sweep", "demo", "--steer", place / "c", "--prompts", place / "prompts.txt", "--grid", "degrees=0,200",
                 "--scores", "refused,nll", "--max-new-tokens", 8, "--keep-answers", "-o", tmp_path / engine, "--engine", engine,
                 "--json"))
        rows[engine] = [json.loads(line) for line in (tmp_path / engine / "rows.jsonl").read_text().splitlines()]
    assert len(vllm) == 1
    for here, there in zip(*rows.values(), strict=True):
        assert there["answers"] == here["answers"]
        assert there["scores"]["nll"] == pytest.approx(here["scores"]["nll"], abs=1e-4)


def test_eval_is_run_by_the_engine(run, place, vllm, tmp_path):
    items = {}
    for engine in ("torch", "vllm"):
        told(run("eval", "demo", "--tasks", "mmlu_sample", "--data", place / "data", "--steer", place / "c", *TO_200, "-o",
                 tmp_path / f"{engine}.json", "--engine", engine, "--json"))
        items[engine] = json.loads((tmp_path / f"{engine}.json").read_text())["items"]
    assert len(vllm) == 1
    assert items["vllm"] == items["torch"]


@pytest.mark.parametrize(("name", "words", "message"), [
    ("sweep", ("--engine", "vllm", "--ray", "local"), "--ray: not with --engine vllm; use --engine torch"),
    ("eval", ("--engine", "vllm", "--ray", "local"), "--ray: not with --engine vllm"),
    ("eval", ("--engine", "vllm", "--tasks", "mt_bench", "--judge", "llm:x@http://127.0.0.1:9"), "mt_bench: not with --engine"),
    ("generate", ("--engine-set", "max_model_len=64"), "--engine-set is about vLLM"),
    ("generate", ("--engine", "vllm", "--engine-set", "max_model_length=64"), "vLLM does not take --engine-set max_model_length")])
def test_what_an_engine_cannot_do_is_refused_by_name(run, place, vllm, tmp_path, name, words, message):
    (tmp_path / "mt_bench").mkdir()
    (tmp_path / "mt_bench" / "question.jsonl").write_text("{}\n")
    given = {"generate": ("demo", "red"), "sweep": ("demo", "--steer", place / "c", "--prompts", place / "prompts.txt", "-o",
                                                    tmp_path / "run", "--grid", "degrees=200"),
             "eval": ("demo", "--data", tmp_path, *(() if "--tasks" in words else ("--tasks", "mmlu_sample")))}[name]
    result = run(name, *given, *words)
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert len(vllm) == ("max_model_length=64" in words)
    assert not (tmp_path / "run").exists()


def test_without_vllm_the_command_says_what_to_install(run, monkeypatch):
    from lenssteer.engines.vllm import versions

    monkeypatch.setattr(versions, "installed", lambda: None)
    result = run("generate", "demo", "red", "--engine", "vllm")
    assert result.exit_code == 1
    assert 'pip install "vllm' in " ".join(result.output.split())


def test_an_engine_that_is_not_there_is_refused(run):
    result = run("generate", "demo", "red", "--engine", "jax")
    assert result.exit_code == 2
    assert "torch" in result.output
