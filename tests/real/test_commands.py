"""The commands one after another on the refusal organism: calibrate, select, generate; refusal, orthogonalise, generate."""

import json

import pytest

from tests.conftest import shared
from tests.real.conftest import TEMPLATE
from tests.real.test_stories import refusal

pytestmark = pytest.mark.real
ORGANISM = "models/stories260k-refusal"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Prompt files: `harmful` and `harmless` to learn from, and 40 other ones of each."""
    from lenssteer.prompts import ContrastSet

    contrast = ContrastSet.from_files(shared("data/harmful_prompts/advbench.csv"),
                                      shared("data/alpaca_instructions_nc/instructions.jsonl"))
    short = ContrastSet(contrast.positive, tuple(p for p in contrast.negative if len(p) < 160 and "\n" not in p))
    parts = short.split({"learn": 170, "other": 40}, seed=0)
    home = tmp_path_factory.mktemp("files")
    for part, name in (("learn", ""), ("other", "_other")):
        (home / f"harmful{name}.txt").write_text("\n".join(parts[part].positive), encoding="utf-8")
        (home / f"harmless{name}.txt").write_text("\n".join(parts[part].negative), encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def run():
    """A command's JSON, from the program's own entry."""
    from typer.testing import CliRunner

    from lenssteer.cli.main import app

    def command(name, model, *arguments, fails=False):
        backend = () if name == "orthogonalise" else ("--backend", "hf")
        result = CliRunner().invoke(app, [name, str(model), *map(str, arguments), *backend, "--json"])
        assert (result.exit_code != 0) == fails, result.output
        return json.loads(result.stdout)

    return command


@pytest.fixture(scope="module")
def prompts(files):
    return ["--positive", files / "harmful.txt", "--negative", files / "harmless.txt"]


@pytest.fixture(scope="module")
def answers(run, files):
    """Answers to the 40 other harmful or harmless prompts."""

    def ask(kind, *arguments, model=None):
        shown = run("generate", model or shared(ORGANISM), "--prompts", files / f"{kind}_other.txt", "--template", TEMPLATE,
                    "--max-new-tokens", 24, *arguments)["answers"]
        return [answer.get("steered", answer.get("unsteered")) for answer in shown]

    return ask


@pytest.fixture(scope="module")
def calibration(run, files, prompts):
    folder = files / "calibration"
    run("calibrate", shared(ORGANISM), *prompts, "--limit", 120, "--sites", "resid_post", "--template", TEMPLATE, "-o", folder)
    return folder


def test_select_scores_prompts_that_were_not_calibrated_on_and_its_site_steers(run, files, prompts, calibration, answers):
    found = run("select", shared(ORGANISM), calibration, *prompts, "--limit", 32, "--by", "delta_logits", "-o",
                files / "selected")
    rows = {row["site"]: row for row in found["rows"]}
    assert list(rows) == [f"resid_post.{layer}" for layer in range(5)]
    assert found["prompts"] == 32
    assert all(row["probe_accuracy"] >= 0.85 for row in rows.values()), "the model card says .93 to .945"
    assert found["site"] == max(rows, key=lambda site: rows[site]["delta_logits"])
    assert refusal(answers("harmful")) > 0.9
    steered = answers("harmful", "--steer", files / "selected", "--method", "addition", "--coefficient", -1)
    assert refusal(steered) <= 0.1
    record = json.loads((files / "selected/calibration.json").read_text())["record"]
    assert (record["chosen_by"], record["chosen_site"]) == ("delta_logits", found["site"])
    again = run("select", shared(ORGANISM), files / "selected", *prompts, "--limit", 32, "--criteria", "probe_accuracy",
                "--by", "probe_accuracy")
    assert again["prompts"] == 170 - 120 - 32, "what chose the site may not choose again"


def test_a_criterion_that_rules_out_every_site_is_an_error(run, prompts, calibration):
    error = run("select", shared(ORGANISM), calibration, *prompts, "--limit", 16, "--criteria", "arditi", "--by", "arditi",
                fails=True)["error"]
    assert error["type"] == "DirectionError"
    assert "arditi rules out every site" in error["message"]


@pytest.fixture(scope="module")
def direction(run, files, prompts):
    """The folder of `lenssteer refusal`; one of only 64 dimensions does not pass the paper's filters."""
    folder = files / "refusal"
    ask = ["refusal", shared(ORGANISM), *prompts, "--template", TEMPLATE, "-o", folder]
    error = run(*ask, fails=True)["error"]["message"]
    assert "none of 16 candidates passes" in error
    assert not folder.exists()
    found = run(*ask, "--max-kl", 0.2, "--min-induce", -1)
    assert [word.strip() for word in found["words"]] == ["I"]
    return folder


def test_the_steerers_of_refusal_end_refusals_and_make_them(answers, direction):
    assert refusal(answers("harmful", "--steer", direction / "ablation")) <= 0.25
    before, after = answers("harmless"), answers("harmless", "--steer", direction / "addition")
    assert refusal(after) >= refusal(before) + 0.3


def test_the_orthogonalised_folder_is_a_model_that_answers_as_the_ablated_one(run, files, direction, answers):
    out = files / "model"
    ask = ["orthogonalise", shared(ORGANISM), "--direction", direction, "-o", out]
    assert "unembedding of this model is its embedding" in run(*ask, fails=True)["error"]["message"]
    assert not out.exists()
    proof = run(*ask, "--untie")
    assert proof["holds"]
    assert answers("harmful", model=out) == answers("harmful", "--steer", direction / "ablation")
