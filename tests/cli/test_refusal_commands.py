import json

import pytest
import typer
from typer.testing import CliRunner

from lenssteer.models.demo.world import requests

run = CliRunner()


@pytest.fixture(scope="module")
def app():
    from lenssteer.cli.generate import generate
    from lenssteer.cli.orthogonalise import orthogonalise
    from lenssteer.cli.refusal import refusal

    app = typer.Typer()
    for command in (refusal, orthogonalise, generate):
        app.command()(command)
    return app


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    for kind in ("harmful", "harmless"):
        (folder / f"{kind}.txt").write_text("\n".join(p.text for p in requests("calibration", kind)[:30]) + "\n")
    return ["refusal", "demo", "--positive", str(folder / "harmful.txt"), "--negative", str(folder / "harmless.txt"),
            "--train", "16", "--validation", "5", "--backend", "hf"]


@pytest.fixture(scope="module")
def folder(app, ask, tmp_path_factory):
    out = tmp_path_factory.mktemp("refusal") / "r"
    result = run.invoke(app, [*ask, "-o", str(out), "--min-induce", "-5"])
    assert result.exit_code == 0, result.output
    text = result.output.replace("\n", "")
    assert "*" in text
    assert "bypass" in text
    assert f"lenssteer generate demo --steer {out}/ablation" in text
    return out


def test_refusal_as_json(app, ask, tmp_path):
    result = run.invoke(app, [*ask, "-o", str(tmp_path / "r"), "--min-induce", "-5", "--json", "--compat", "arditi"])
    found = json.loads(result.stdout)
    assert found["rule"] == "arditi"
    assert found["words"][0] == "sorry"
    assert found["candidates"][0]["chosen"]
    assert found["record"]["train"]["given"] == [16, 16]


def test_when_no_candidate_passes_nothing_is_written(app, ask, tmp_path):
    result = run.invoke(app, [*ask, "-o", str(tmp_path / "r")])
    assert result.exit_code == 1
    assert "candidates passes" in result.output
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--compat", "other", "-o", "r"], "unknown compat"), (["--train", "500", "-o", "r"], "the split asks for")])
def test_wrong_settings_are_refused_before_the_model_loads(app, ask, monkeypatch, arguments, message):
    monkeypatch.setattr("lenssteer.models.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    result = run.invoke(app, [*ask, *arguments])
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")


def test_generate_takes_the_ablation_steerer(app, folder):
    prompt = requests("test", "harmful")[0].text
    answers = json.loads(run.invoke(app, ["generate", "demo", prompt, "--steer", str(folder / "ablation"), "--backend",
                                          "hf", "--compare", "--json"]).stdout)["answers"][0]
    assert answers["unsteered"].startswith("sorry")
    assert not answers["steered"].startswith("sorry")


def test_orthogonalise_writes_a_model_that_no_longer_refuses(app, folder, tmp_path):
    out = tmp_path / "model"
    command = ["orthogonalise", "demo", "--direction", str(folder), "-o", str(out)]
    result = run.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "largest logit difference" in result.output
    prompt = requests("test", "harmful")[0].text
    answers = [json.loads(run.invoke(app, ["generate", name, prompt, "--backend", "hf", "--json", *steer]).stdout)["answers"]
               for name, steer in (("demo", ["--steer", str(folder / "ablation")]), (str(out), []))]
    assert answers[1][0]["unsteered"] == answers[0][0]["steered"]
    again = run.invoke(app, [*command, "--json"])
    assert again.exit_code == 1
    assert "exists" in json.loads(again.stdout)["error"]["message"]


def test_orthogonalise_takes_a_calibration(app, tmp_path, resid_post):
    resid_post.save(tmp_path / "c")
    result = run.invoke(app, ["orthogonalise", "demo", "--direction", str(tmp_path / "c"), "-o", str(tmp_path / "model"),
                              "--source", "resid_post.3", "--json"])
    found = json.loads(result.stdout)
    assert found["holds"]
    assert found["source"] == "resid_post.3"


def test_orthogonalise_without_a_direction_is_refused(app, tmp_path):
    result = run.invoke(app, ["orthogonalise", "demo", "--direction", str(tmp_path), "-o", str(tmp_path / "m")])
    assert result.exit_code == 1
    assert "no refusal direction and no calibration" in result.output.replace("\n", " ")
