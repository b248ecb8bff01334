"""`lenssteer rerun` as a user types it."""

import json
from enum import EnumMeta
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from lenssteer.cli import record
from lenssteer.cli.main import NAMES, app
from lenssteer.cli.rerun import arguments, rerun
from lenssteer.errors import FileError, ParameterError
from lenssteer.models.demo.world import requests

runner = CliRunner()
again = typer.Typer()
again.command()(rerun)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("rerun")
    for split, kind in (("calibration", "harmful"), ("calibration", "harmless"), ("selection", "harmful")):
        (place / f"{split}-{kind}.txt").write_text("\n".join(p.text for p in requests(split, kind)[:5]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        give("calibrate", "demo", "--positive", "calibration-harmful.txt", "--negative", "calibration-harmless.txt", "--backend", "hf", "-o", "c")
        sweep = ("sweep", "demo", "--steer", "c", "--prompts", "selection-harmful.txt", "--max-new-tokens", "5", "--temperature", "0.8", "-o", "s")
        give(*sweep, "--grid", "degrees=0:360:180")
        give(*sweep, "--method", "ablation")
        give(*sweep, "--method", "ablation")
    return place


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def give(*words):
    result = runner.invoke(app, words)
    assert result.exit_code == 0, result.output


def test_a_record_holds_what_a_run_depends_on(here):
    run = json.loads((here / "c/run.json").read_text())
    [made] = run["commands"]
    assert (run["kind"], made["command"]) == ("run", "calibrate")
    assert made["options"]["seed"] == 0
    assert made["options"]["finder"] == "mean_difference"
    assert not {"output", "as_json"} & made["options"].keys()
    text = (here / "calibration-harmful.txt").read_bytes()
    assert made["inputs"]["calibration-harmful.txt"] == sha256(text).hexdigest()
    calibrated = json.loads((here / "c/calibration.json").read_text())
    assert made["models"] == [{**calibrated["model"], "dtype": "float32"}]
    assert made["versions"]["torch"] == version("torch")


def test_commands_that_fill_one_folder_are_kept_once_each(here):
    made = record.read_run(here / "s")["commands"]
    assert [one["options"]["method"] for one in made] == ["selective", "ablation"]
    assert set(made[0]["inputs"]) == {"c/calibration.json", "selection-harmful.txt"}


def test_a_calibration_comes_out_the_same(here):
    result = runner.invoke(again, ["c", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["different"], told["environment"]) == (0, [])
    assert told["equal"] > 10_000


def test_a_sweep_comes_out_the_same_and_is_kept(here, tmp_path):
    result = runner.invoke(again, ["s", "-o", str(tmp_path / "kept")])
    assert result.exit_code == 0, result.output
    assert "0 different" in result.stdout
    assert len((tmp_path / "kept/rows.jsonl").read_text().splitlines()) == 4
    refused = runner.invoke(again, ["s", "-o", str(tmp_path / "kept")])
    assert refused.exit_code == 1
    assert "exists already" in refused.output


def test_what_differs_is_named(here, tmp_path):
    """A number, an answer's score and the environment, in a copy whose record is old."""
    copy = tmp_path / "s"
    copy.mkdir()
    for path in (here / "s").iterdir():
        (copy / path.name).write_text(path.read_text())
    rows = [json.loads(line) for line in (copy / "rows.jsonl").read_text().splitlines()]
    rows[1]["scores"]["repeats"][2] = 17.0
    (copy / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    run = json.loads((copy / "run.json").read_text())
    run["commands"][-1]["versions"]["torch"] = "1.0"
    run["commands"][-1]["inputs"]["selection-harmful.txt"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(run))
    result = runner.invoke(again, [str(copy), "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    [one] = told["differences"]
    assert one["where"].endswith("scores.repeats[2]")
    assert one["recorded"] == 17.0
    assert told["environment"] == [f"torch: 1.0, now {version('torch')}", "selection-harmful.txt has changed"]


@pytest.mark.parametrize(("words", "said"), [
    (["nowhere"], "no record to repeat it from"),
    (["c", "--tolerance", "-1"], "at least 0"),
])
def test_what_cannot_be_repeated_is_said(here, words, said):
    result = runner.invoke(again, words)
    assert result.exit_code == 1
    assert said in result.output


def test_elsewhere_the_inputs_are_missing(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(again, [str(here / "c")])
    assert result.exit_code == 1
    assert "in the folder that the run was started in" in result.output.replace("\n", " ")


def test_a_command_that_fails_leaves_no_record_and_fails_again(here, tmp_path):
    assert runner.invoke(app, ["calibrate", "demo", "--positive", "none.txt", "--negative", "none.txt", "-o", "failed"]).exit_code == 1
    assert not Path("failed").exists()
    (tmp_path / "run.json").write_text((here / "c/run.json").read_text().replace('"pca"', '"nonsense"'))
    result = runner.invoke(again, [str(tmp_path)])
    assert result.exit_code == 1
    assert "fails here with exit code 1" in result.output


@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("name", record.RECORDED)
def test_options_become_words_that_give_the_same_options(name, flags):
    """Of every command: what typer reads from the words is what was recorded."""
    command = get_command(app).commands[NAMES.get(name, name)]
    options = {}
    for one in command.params:
        if one.name in (*record.ELSEWHERE, "help"):
            continue
        kind = one.type_descriptor.annotation
        value = {bool: flags, int: 3, float: 0.25}.get(kind, "1")
        value = list(kind)[-1].value if isinstance(kind, EnumMeta) else value
        options[one.name] = [value, "-x=y"] if one.multiple or one.nargs == -1 else value
    context = command.make_context(name, arguments(command, options, Path("there")))
    read = {one: record._plain(value) for one, value in context.params.items() if value is not None and one in options}
    assert {one: str(value) for one, value in read.items()} == {one: str(value) for one, value in options.items()}
    if "output" in context.params:
        assert str(context.params["output"]) == "there"


def test_an_option_of_another_version_is_refused():
    with pytest.raises(ParameterError, match="calibrate has no volume"):
        arguments(get_command(app).commands["calibrate"], {"volume": 11}, Path("there"))


def test_a_result_in_one_file_has_its_record_beside(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("{}")
    record.begin()
    record.keep("compare", {"model": "demo", "output": path, "report": None, "as_json": False})
    assert record.read_run(path)["commands"][0]["options"] == {"model": "demo"}
    assert (tmp_path / "result.run.json").is_file()
    record.keep("generate", {"output": tmp_path / "other.json"})
    record.keep("compare", {"output": tmp_path / "absent.json"})
    assert not list(tmp_path.glob("other*")) + list(tmp_path.glob("absent*"))


def test_a_damaged_record_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"kind": "run", "format": 1, "commands": []}')
    with pytest.raises(FileError, match=r"damaged at commands"):
        record.read_run(tmp_path)
