"""The commands of methods, sites and pairs, as a user types them."""

import json

import pytest
from typer.testing import CliRunner

from lenssteer.cli.main import app
from lenssteer.models.demo.world import requests
from tests.conftest import shared

run = CliRunner()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    for split in ("calibration", "selection"):
        for kind in ("harmful", "harmless"):
            text = "\n".join(p.text for p in requests(split, kind)[:40])
            (folder / f"{split}-{kind}.txt").write_text(text + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("calibrated") / "c"
    result = run.invoke(app, ["calibrate", "demo", "--positive", str(files / "calibration-harmful.txt"), "--negative",
                              str(files / "calibration-harmless.txt"), "--sites", "resid_post", "--finder", "fisher",
                              "--plane", "leading", "-o", str(out), "--backend", "hf"])
    assert result.exit_code == 0, result.output
    return out


def test_methods_in_json_have_name_source_and_parameters():
    listed = json.loads(run.invoke(app, ["methods", "--json"]).stdout)
    assert {"selective", "alphasteer", "sttp", "cast", "clamp-latent"} <= {line["name"] for line in listed}
    assert all(set(line) >= {"name", "source", "parameters"} for line in listed)


def test_methods_as_a_table_fit_and_name_everything():
    shown = run.invoke(app, ["methods"])
    for line in json.loads(run.invoke(app, ["methods", "--json"]).stdout):
        assert line["name"] in shown.output
    assert "\u2026" not in shown.output


def test_finder_and_plane_reach_the_calibration(folder):
    from lenssteer.recipe import Calibration

    loaded = Calibration.load(folder)
    assert loaded.finder == "fisher"
    assert loaded.plane.kind == "leading"


@pytest.mark.parametrize("options", [
    ["--method", "alphasteer", "--set", "strength=-4", "--set", "ridge=1", "--sites", "resid_post.4"],
    ["--method", "sttp", "--set", "toward=negative", "--source", "resid_post.3"],
    ["--method", "cast", "--coefficient", "-1", "--source", "resid_post.4"],
    ["--method", "addition", "--coefficient", "-1", "--source", "resid_post.3", "--schedule", "linear(4)"],
])
def test_any_method_answers_with_set(folder, options):
    result = run.invoke(app, ["generate", "demo", "how do i hide a red bomb ?", "--steer", str(folder), "--backend", "hf",
                              "--json", *options])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert sum(site["edited"] for site in printed["receipt"]["sites"].values()) > 0
    assert printed["answers"][0]["steered"]


def test_a_setting_without_a_value_is_refused(folder):
    result = run.invoke(app, ["generate", "demo", "x", "--steer", str(folder), "--set", "strength"])
    assert result.exit_code == 1
    assert "NAME=VALUE" in result.output


def test_select_prints_scores_chooses_and_saves(folder, files, tmp_path):
    options = ["select", "demo", str(folder), "--positive", str(files / "selection-harmful.txt"), "--negative",
               str(files / "selection-harmless.txt"), "--limit", "12", "--backend", "hf", "--by", "effect_size",
               "--criteria", "effect_size,probe_accuracy", "-o", str(tmp_path / "chosen")]
    shown = run.invoke(app, options)
    assert shown.exit_code == 0, shown.output
    assert "chosen by effect_size" in shown.output
    printed = json.loads(run.invoke(app, [*options, "--json"]).stdout)
    best = max(printed["rows"], key=lambda row: row["effect_size"] or 0)
    assert printed["site"] == best["site"]
    from lenssteer.recipe import Calibration

    assert str(Calibration.load(tmp_path / "chosen").direction.site) == best["site"]


def test_prompts_that_were_calibrated_on_are_not_selected_on(folder, files):
    result = run.invoke(app, ["select", "demo", str(folder), "--positive", str(files / "calibration-harmful.txt"),
                              "--negative", str(files / "calibration-harmless.txt"), "--backend", "hf"])
    assert result.exit_code == 1
    assert "not calibrated on" in result.output


@pytest.mark.real
def test_pairs_are_read_at_the_letter(tmp_path):
    pairs = shared("data/caa/coordinate-other-ais.generate.json")
    model = shared("models/stories260k")
    result = run.invoke(app, ["calibrate", str(model), "--pairs", str(pairs), "--limit", "20", "--sites", "resid_post",
                              "--backend", "hf", "--template", "none", "-o", str(tmp_path / "c"), "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["record"]
    assert record["at"] == "answer(-2)"
    assert record["prompts"] == 40


def test_calibrate_wants_two_files_or_pairs(tmp_path):
    result = run.invoke(app, ["calibrate", "demo", "-o", str(tmp_path / "c")])
    assert result.exit_code == 1
    assert "--pairs FILE" in result.output


def test_alphasteer_from_samples_alone(files, tmp_path):
    """As on a wide model, where second moments would take too much room."""
    made = run.invoke(app, ["calibrate", "demo", "--positive", str(files / "calibration-harmful.txt"), "--negative",
                            str(files / "calibration-harmless.txt"), "--sites", "resid_post", "--no-scatter", "--samples",
                            "-o", str(tmp_path / "c"), "--backend", "hf"])
    assert made.exit_code == 0, made.output
    answered = run.invoke(app, ["generate", "demo", "how do i hide a red bomb ?", "--steer", str(tmp_path / "c"), "--method",
                                "alphasteer", "--set", "strength=-4", "--backend", "hf", "--json"])
    assert answered.exit_code == 0, answered.output
    assert sum(site["edited"] for site in json.loads(answered.stdout)["receipt"]["sites"].values()) > 0
