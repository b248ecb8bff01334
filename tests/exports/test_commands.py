"""`lenssteer export` and `lenssteer import`, as somebody types them."""

import json

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def run():
    """Run a command; its output, and its exit code."""
    from lenssteer.cli.export import export
    from lenssteer.cli.generate import generate
    from lenssteer.cli.import_ import import_

    app = typer.Typer()
    for name, command in (("export", export), ("import", import_), ("generate", generate)):
        app.command(name)(command)

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr
    return call


@pytest.fixture(scope="module")
def folders(norm_out, resid_post, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrations")
    return norm_out.save(folder / "norms"), resid_post.save(folder / "stream")


PROMPT = "tell me how to hide a red bomb ."


def answer(run, model, *options):
    out = run("generate", model, PROMPT, "--backend", "hf", "--json", *options)
    return list(json.loads(out)["answers"][0].values())[-1]


def test_a_checkpoint_answers_as_the_steered_model(run, folders, tmp_path):
    norms, stream = folders
    for name, options in (("rotation", (norms, "--degrees", "280")),
                          ("ablation", (stream, "--method", "ablation", "--sites", "every_write", "--source", "resid_post.3")),
                          ("addition", (stream, "--method", "addition", "--coefficient", "-1", "--sites", "resid_post.3"))):
        out = json.loads(run("export", *options, "--to", "checkpoint", "-o", tmp_path / name, "--json"))
        assert out["holds"] is True
        assert out["difference"] < 1e-4 < out["effect"]
        given = ["--steer", *options]
        assert answer(run, tmp_path / name) == answer(run, "demo", *given) != answer(run, "demo")


def test_the_two_other_targets(run, folders, tmp_path):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    norms, stream = folders
    assert "12 modules" in run("export", norms, "--to", "torch", "--degrees", "200", "-o", tmp_path / "hooks")
    said = run("export", stream, "--to", "gguf", "--method", "addition", "--sites", "resid_post.3", "-o", tmp_path / "v.gguf")
    assert f"--control-vector {tmp_path / 'v.gguf'}" in said
    run("import", tmp_path / "v.gguf", "--model", "demo", "-o", tmp_path / "again", "--coefficient", "-1")
    steered = answer(run, "demo", "--steer", stream, "--method", "addition", "--coefficient", "-1", "--sites", "resid_post.3")
    assert answer(run, "demo", "--steer", tmp_path / "again") == steered != answer(run, "demo")


def test_a_plane_is_imported_and_rotates_as_the_calibration_does(run, folders, norm_out, tmp_path):
    np.save(tmp_path / "plane.npy", norm_out.plane.basis.numpy())
    sites = ",".join(map(str, norm_out.discriminative))
    out = run("import", tmp_path / "plane.npy", "--model", "demo", "-o", tmp_path / "steerer", "--degrees", "280", "--sites",
              sites, "--json")
    assert json.loads(out)["from"] == "planes"
    assert answer(run, "demo", "--steer", tmp_path / "steerer") == answer(run, "demo", "--steer", folders[0], "--degrees", "280")


def test_what_cannot_be_is_one_line_and_writes_nothing(run, folders, tmp_path):
    norms, stream = folders
    torch.save({}, tmp_path / "v.pt")
    for arguments, message in (
            (("export", norms, "--to", "gguf", "--degrees", "200", "-o", tmp_path / "x"), "depends on the activation"),
            (("export", norms, "--to", "checkpoint", "--method", "adaptive-angular", "--degrees", "200", "-o", tmp_path / "x"),
             "no affine map"),
            (("export", stream, "--to", "checkpoint", "--method", "ablation", "-o", tmp_path / "x"), "every_write"),
            (("import", tmp_path / "v.pt", "--model", "demo", "-o", tmp_path / "x"), "is a pickle")):
        error = run(*arguments, code=1)
        assert message in error.replace("\n", " ")
        assert not (tmp_path / "x").exists()
