"""Each benchmark end to end, on work so small that its figures mean nothing."""

import os
import subprocess
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from lenssteer.bench import Stand, peers_folder
from lenssteer.bench.capture import capture
from lenssteer.bench.decoding import decoding, random_sae, steerer_of
from lenssteer.bench.engines import engines
from lenssteer.bench.headline import headline, search
from lenssteer.bench.lowrank import lowrank
from lenssteer.bench.memory import measured
from lenssteer.bench.peers import PINS, made
from lenssteer.bench.peers import measured as measured_peers
from lenssteer.bench.sweep import angles, sweep
from lenssteer.errors import ModelError
from lenssteer.methods import CATALOGUE


def ratios(pieces):
    return {name: ratio for piece in pieces for name, ratio in piece.ratios.items()}


def test_capture(stand):
    found = ratios(capture(stand))
    assert found["capture_over_forward"].target == 1.05
    assert all(one.median > 0 for one in found.values())


def test_decoding(stand):
    found = ratios(decoding(stand))
    assert {"steered_over_unsteered/hf/selective", "steered_over_unsteered/hf/standard-angular"} <= set(found)


@pytest.mark.parametrize("method", CATALOGUE, ids=lambda method: method.name)
def test_every_method_has_a_steerer_that_acts(stand, method):
    from lenssteer.models import generate

    steerer = steerer_of(stand, method)
    with steerer.on(stand.model()) as receipt:
        generate(stand.model(), stand.asked[:2], stand.decoding)
    assert all(site.selected for site in receipt.sites.values())
    assert len(steerer.sites) == (1 if method.sites == "latent" else
                                  len([site for site in stand.sites if site.layer or method.name != "cast"]))


def test_the_random_autoencoder_fits_the_model(stand):
    assert random_sae(stand).d_model == stand.calibration.card.d_model


def test_engines(stand):
    pieces = list(engines(stand))
    speeds = {name: value for piece in pieces for name, value in piece.tokens_per_second.items()}
    assert {"bridge", "bridge/selective", "hf", "hf/selective"} <= set(speeds)
    assert all(value > 0 for value in speeds.values())


def test_sweep(stand):
    assert angles(stand) == (0.0, 90.0, 180.0, 270.0)
    assert angles(Stand(stand.folder, "x"))[:3] == (0.0, 10.0, 20.0)
    assert set(ratios(sweep(stand))) == {"sweep_loop_over_stacked", "sweep_loop_over_stacked/organism"}


def test_lowrank(stand):
    found = ratios(lowrank(stand))
    assert found["dense_over_lowrank_flops"].median == 2 * 256**2 / (2 * 2 * (2 * 256 + 2))
    assert {"dense_over_lowrank", "apply_over_copy"} <= set(found)


def test_memory_is_measured_in_a_process_of_its_own():
    found = measured(prompts=4, layers=1, d_model=64)
    assert found["peak_mib"] >= found["loaded_mib"] > 50
    assert found["added_mib"] < 200


def test_search_and_headline(stand):
    found = ratios([*search(stand), *headline(stand)])
    for name in ("grid_over_search", "papers_procedure_over_ours"):
        assert found[name].as_dict()["our_degrees"] in angles(stand)
        assert isinstance(found[name].as_dict()["same_angle"], bool)


def test_peers_are_told_what_to_install(tmp_path, monkeypatch):
    asked = []

    def run(command, **_options):
        asked.append(command)
        raise subprocess.CalledProcessError(1, command, stderr="no network")

    monkeypatch.setattr("lenssteer.bench.peers.venv.EnvBuilder.create", lambda self, folder: folder.mkdir())
    monkeypatch.setattr("lenssteer.bench.peers.subprocess.run", run)
    with pytest.raises(ModelError, match="no network"):
        made(tmp_path / "env")
    assert set(PINS) < set(asked[0])
    assert any(part.startswith("torch==") for part in asked[0])


def test_an_environment_is_made_once(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    (tmp_path / "made.json").write_text("[]")
    assert made(tmp_path) == python


def test_what_other_libraries_say_is_read(stand, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho log\necho '{\"repeng\": {\"version\": \"1\", \"capture\": [[2, 1]]}}'\n")
    python.chmod(0o755)
    assert measured_peers(python, stand)["repeng"]["capture"] == [[2, 1]]


@pytest.mark.skipif("LENSSTEER_PEERS" not in os.environ, reason="LENSSTEER_PEERS names no environment of the peers")
def test_the_other_libraries_run(stand):
    found = measured_peers(made(Path(os.environ["LENSSTEER_PEERS"])), stand)
    assert not [one["error"] for one in found.values() if "error" in one]


def test_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert peers_folder() == tmp_path / "lenssteer" / "peers"


@pytest.fixture
def command():
    from lenssteer.cli.bench import bench

    app = Typer()
    app.command()(bench)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command(command):
    ran = command("lowrank", "--quick", "--layers", "1", "--width", "64")
    assert ran.exit_code == 0
    assert "dense_over_lowrank_flops" in ran.output
    assert "met" in ran.output


@pytest.mark.parametrize(("arguments", "message"), [
    (("--positive", "a.txt"), "come together"), (("--width", "100"), "multiple of 64"), (("captur",), "capture")])
def test_wrong_arguments_are_refused(command, arguments, message):
    ran = command(*arguments)
    assert ran.exit_code == 1
    assert message in ran.output
