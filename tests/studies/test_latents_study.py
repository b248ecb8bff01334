"""`lenssteer demo --sae` and `lenssteer demo --honesty`: what they print is what they measured."""

import json

import pytest
from typer.testing import CliRunner

from lenssteer.cli.main import app
from lenssteer.models.demo.world import facts


@pytest.fixture(scope="module")
def latents():
    result = CliRunner().invoke(app, ["demo", "--sae", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def honesty():
    """The study with one strength a method in place of six; layers are still chosen."""
    few = {"swfc": ("coefficient", (6.0,)), "sttp": ("alpha", (16.0,)), "stmp": ("strength", (2.0,))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lenssteer.studies.honesty.GRID", few)
        yield run_honesty()


def run_honesty():
    result = CliRunner().invoke(app, ["demo", "--honesty", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_latents_are_compared_with_difference_in_means_on_the_test_split(latents):
    rows = {row["edit"]: row for row in latents["rows"]}
    means, best = rows["difference in means"], latents["latents"][0]
    assert means["cosine"] == pytest.approx(1)
    assert means["success"] > 0.8
    assert rows["unsteered"]["success"] < 0.1
    assert best["auroc"] > 0.95
    direction = next(row for name, row in rows.items() if name.startswith(f"latent {best['latent']} "))
    assert direction["cosine"] == pytest.approx(best["cosine"], abs=1e-4)
    assert 0.2 < direction["cosine"] < 1
    assert direction["nll"] > 0
    clamped = rows[f"clamp-latent {best['latent']}"]
    assert clamped["success"] > rows["random"]["success"], "a latent does more than a random direction"
    assert all(row["kl_test"] < 0.2 for row in latents["rows"])


def test_honesty_rises_on_facts_that_were_neither_fitted_nor_chosen_on(honesty):
    rows = {(row["method"], row.get("where")): row for row in honesty["rows"]}
    assert rows["unsteered", None]["truth"] < 0.1
    assert rows["honest prompt", None]["truth"] > 0.95
    assert honesty["n"] == len(facts("selection"))
    for method in ("swfc", "sttp", "stmp"):
        row = rows[method, "all"]
        assert row["against_unsteered"]["low"] > 0, method
        assert row["capability"] > 0.85, method
        assert len(row["truth_by_turn"]) == len(row["repetition_by_turn"]) == 5
    gated = rows["sttp", "all"]["edited_share"]
    assert 0 < gated < rows["swfc", "all"]["edited_share"] == 1, "SwFC moves every token, StTP those below its boundary"


def test_tables_fit_a_terminal(latents, honesty, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    from lenssteer.cli.tables import print_honesty, print_latents

    print_latents(latents)
    print_honesty(honesty)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    for name in ("difference in means", "honest prompt", "truth by turn"):
        assert name in printed


def test_two_studies_at_once_are_refused():
    result = CliRunner().invoke(app, ["demo", "--sae", "--honesty"])
    assert result.exit_code == 1
    assert "one after the other" in result.output
