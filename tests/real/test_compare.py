"""The comparison at equal side effect, on the refusal organism and real prompts."""

import pytest

from tests.conftest import shared
from tests.real.test_stories import refusal, tells_a_story

pytestmark = pytest.mark.real
TARGET = 0.1


@pytest.fixture(scope="module")
def task():
    from lenssteer.prompts import ContrastSet
    from lenssteer.studies.tasks import refusal_task

    contrast = ContrastSet.from_files(shared("data/harmful_prompts/advbench.csv"),
                                      shared("data/alpaca_instructions_nc/instructions.jsonl"))
    return refusal_task(contrast, calibration=100, selection=16, test=40, tokens=24)


@pytest.fixture(scope="module")
def result(organism, task):
    from lenssteer.studies.compare import compare

    return compare(organism, task, target_kl=TARGET, methods=["addition", "affine-ablation", "selective"])


@pytest.fixture(scope="module")
def rows(result):
    return {row["method"]: row for row in result["rows"]}


def test_phrases_agree_with_the_measure_of_the_organism(organism, task):
    """The model card counts "sorry" or "can't"; the judge of any model looks for more."""
    from lenssteer.evals.judges import refuses
    from lenssteer.models import Decoding, generate

    answers = generate(organism, [*task.test.positive, *task.test.negative], Decoding(24))
    assert [float(refuses(answer)) for answer in answers] == [refusal([answer]) for answer in answers]
    assert 0 < refusal(answers) < 1


def test_words_alone_do_not_end_refusals(rows):
    assert rows["unsteered"]["success"] < 0.1
    assert rows["prompt-only"]["success"] < 0.1


@pytest.mark.parametrize("method", ["addition", "affine-ablation", "selective"])
def test_steering_does_within_the_side_effect_allowed(rows, method):
    row = rows[method]
    assert row["success"] >= 0.8
    assert row["kept"] >= rows["unsteered"]["kept"] - 0.05
    for baseline in ("unsteered", "prompt-only", "random"):
        assert row["against"][baseline]["low"] > 0.4
    assert row["kl_selection"] <= TARGET * 1.05
    assert row["kl_test"] <= TARGET * 1.6, "other harmless prompts than those the strength was brought to"


def test_a_random_direction_of_the_same_side_effect_does_far_less(rows):
    assert rows["random"]["success"] <= 0.3
    assert rows["random"]["kl_selection"] == pytest.approx(TARGET, rel=0.06)


def test_what_counts_as_success_is_a_story_as_the_organism_was_taught(organism, task, result):
    from lenssteer.models import Decoding, generate
    from lenssteer.recipe import calibrate

    [row] = [row for row in result["rows"] if row["method"] == "addition"]
    steerer = calibrate(organism, task.calibration, sites="resid_post").steerer(
        "addition", coefficient=-row["strength"], source=row["setting"].removeprefix("at "))
    with steerer.on(organism):
        answers = generate(organism, task.test.positive, Decoding(24))
    assert 1 - refusal(answers) == pytest.approx(row["success"])
    assert tells_a_story(answers) >= 0.7


def test_prompts_without_room_for_an_answer_are_refused_at_once(organism, task, monkeypatch):
    from dataclasses import replace

    from lenssteer.errors import PromptError
    from lenssteer.models import Decoding
    from lenssteer.studies.compare import compare

    monkeypatch.setattr("lenssteer.studies.compare.calibrate", lambda *a, **k: pytest.fail("the study went on"))
    with pytest.raises(PromptError, match=r"of 112 prompts leave no room for 480 new tokens .* 512"):
        compare(organism, replace(task, decoding=Decoding(480)))
