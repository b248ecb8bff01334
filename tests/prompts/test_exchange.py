import pytest

from lenssteer.errors import PromptError
from lenssteer.prompts import AnswerContrast, ContrastSet, Exchange, hashes, prompt_hash, refuse_seen, with_system

PAIR = {"question": "Is it?\n (A) Yes\n (B) No", "answer_matching_behavior": " (A)", "answer_not_matching_behavior": "(B)"}


def test_pairs_put_one_question_in_both_classes():
    contrast = AnswerContrast.from_pairs([PAIR])
    assert contrast.positive[0] == Exchange(PAIR["question"], "(A)")
    assert contrast.negative[0] == Exchange(PAIR["question"], "(B)")


def test_the_hash_follows_answers_and_not_the_name():
    one, two = AnswerContrast.from_pairs([PAIR], "a"), AnswerContrast.from_pairs([PAIR], "b")
    swapped = AnswerContrast(one.negative, one.positive)
    assert one.sha256 == two.sha256 != swapped.sha256


@pytest.mark.parametrize(("build", "message"), [
    (lambda: AnswerContrast((), (Exchange("p", "a"),)), "positive class is empty"),
    (lambda: AnswerContrast((Exchange("p", " "),), (Exchange("p", "a"),)), "has no answer"),
    (lambda: AnswerContrast((Exchange("p", "a"),), (Exchange("p", "a"),)), "both classes"),
    (lambda: AnswerContrast.from_pairs([{"question": "q"}]), "has no 'answer_matching_behavior'"),
])
def test_wrong_exchanges_are_refused(build, message):
    with pytest.raises(PromptError, match=message):
        build()


def test_a_system_prompt_opens_the_conversation():
    assert with_system("hi", "be kind") == ({"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"})
    assert with_system("hi", "") == ({"role": "user", "content": "hi"},)


def test_used_prompts_are_refused_whatever_system_prompt_they_had():
    seen = hashes([with_system("what is it ?", "lie"), "other"])
    refuse_seen(seen, ["new"])
    with pytest.raises(PromptError, match=r"1 of 2 test prompts.*number 1"):
        refuse_seen(seen, ["new", " what is it ?"])
    assert prompt_hash("a") != prompt_hash("b")


def test_a_contrast_without_what_was_seen():
    contrast = ContrastSet(("a", "b"), ("x", "y"))
    assert contrast.without(hashes(["a", "y"])) == ContrastSet(("b",), ("x",))
    with pytest.raises(PromptError, match="used before"):
        contrast.without(hashes(["a", "b"]))
