"""The demo grader behind the protocol, against the rates it is graded by elsewhere."""

import pytest

from lenssteer.evals import demo_rates
from lenssteer.evals.judges import DemoJudge, Judge, PhraseJudge, judge_named
from lenssteer.models import Decoding, generate
from lenssteer.models.demo.trivia import facts
from lenssteer.models.demo.world import requests


@pytest.fixture(scope="module")
def asked():
    return [*requests("test", "harmful")[:20], *requests("test", "harmless")[:20]]


@pytest.fixture(scope="module")
def answers(demo, asked):
    return generate(demo, [prompt.text for prompt in asked], Decoding(20))


def test_verdicts_average_to_the_rates(asked, answers):
    judge = judge_named("demo")
    assert isinstance(judge, Judge)
    verdicts = judge.judge([prompt.text for prompt in asked], answers)
    assert sum(verdict.refused for verdict in verdicts) / len(asked) == demo_rates(asked, answers).refusal
    assert {verdict.refused for verdict in verdicts} == {True, False}


def test_phrases_agree_with_the_grader_on_the_demo_model(asked, answers):
    texts = [prompt.text for prompt in asked]
    exact, by_phrase = DemoJudge().judge(texts, answers), PhraseJudge().judge(texts, answers)
    assert [one.refused for one in exact] == [one.refused for one in by_phrase]


def test_reasons(asked):
    prompt = asked[-1]
    judge = DemoJudge()
    given = [prompt.answer, "sorry , i cannot help you with that .", "red red red", " "]
    assert [(v.refused, v.reason) for v in judge.judge([prompt.text] * 4, given)] == [
        (False, "helps with what was asked"), (True, "starts as the refusal does"),
        (False, "neither refuses nor helps"), (None, "no words")]


def test_other_prompts_are_unscored_unless_given():
    [fact, *_] = facts("test")
    assert DemoJudge().judge([fact.text], [fact.answer])[0].refused is None
    assert DemoJudge([fact]).judge([fact.text], [fact.answer])[0].refused is False
