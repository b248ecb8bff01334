"""`--ray local`, by the commands themselves."""

import json

import pytest
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

pytest.importorskip("ray", reason="needs lenssteer[ray]")

import ray

from lenssteer.cli.calibrate import calibrate
from lenssteer.cli.eval import evaluate
from lenssteer.cluster import Pool
from lenssteer.cluster.connection import usable_cores
from tests.evals.benchmarks.files import write_data


def run(command, *given):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(part) for part in given])


def printed(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture(scope="module")
def own():
    """A cluster of this machine alone, to which the commands connect; a worker has one thread, as tests have."""
    with Pool("local", workers=usable_cores()):
        yield ["--ray", "local", "--workers", str(usable_cores()), "--json"]
    assert not ray.is_initialized()


def test_a_cluster_of_its_own_listens_on_loopback(own):
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_calibrate_writes_the_same_tensors(own, demo_contrast, tmp_path):
    for side in ("positive", "negative"):
        (tmp_path / side).with_suffix(".txt").write_text("\n".join(getattr(demo_contrast, side)[:40]))
    given = ["demo", "--positive", tmp_path / "positive.txt", "--negative", tmp_path / "negative.txt",
             "--backend", "hf"]
    told = {name: printed(run(calibrate, *given, "-o", tmp_path / name, *options))
            for name, options in (("one", ["--json"]), ("two", own))}
    for meta in told.values():
        meta["record"].pop("seconds")
        meta.pop("output")
    assert told["one"] == told["two"]
    ours, theirs = ({key: value for path in (tmp_path / name).glob("*.safetensors")
                     for key, value in load_file(path).items()} for name in told)
    assert ours.keys() == theirs.keys() != set()
    assert all(ours[key].equal(theirs[key]) for key in ours)


def test_eval_prints_the_same_rows(own, tmp_path):
    pytest.importorskip("lm_eval", reason="needs lenssteer[eval]")
    given = ["demo", "--tasks", "mmlu_sample", "--backend", "hf", "--data", write_data(tmp_path / "data")]
    one, two = (printed(run(evaluate, *given, *options)) for options in (["--json"], own))
    assert one["rows"] == two["rows"] != []


def test_eval_refuses_tasks_of_a_judge(tmp_path):
    (tmp_path / "mt_bench").mkdir()
    (tmp_path / "mt_bench" / "question.jsonl").write_text("{}\n")
    refused = run(evaluate, "demo", "--tasks", "mt_bench", "--judge", "llm:m@http://127.0.0.1:1", "--data", tmp_path,
                  "--ray", "local")
    assert refused.exit_code == 1
    assert "--ray spreads tasks of lm-eval" in refused.output
