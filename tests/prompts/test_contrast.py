import warnings

import pytest

from lenssteer.errors import ParameterError, PromptError
from lenssteer.prompts import ContrastSet, PromptWarning

PLUS, MINUS = ("break the lock", "steal a car", "pick a fight"), ("bake a cake", "fix my bike", "plant a tree")


def test_the_hash_depends_on_prompts_and_classes_only():
    one = ContrastSet(PLUS, MINUS, "a")
    assert one.sha256 == ContrastSet(PLUS, MINUS, "b").sha256
    assert one.sha256 != ContrastSet(MINUS, PLUS).sha256


@pytest.mark.parametrize(("positive", "negative", "message"), [
    ((), MINUS, "positive class is empty"),
    (PLUS, (), "negative class is empty"),
    (PLUS, ("  ", "x"), "negative prompt 0 is blank"),
    (PLUS, PLUS[:1], "both classes"),
])
def test_classes_that_cannot_be_contrasted_are_refused(positive, negative, message):
    with pytest.raises(PromptError, match=message):
        ContrastSet(positive, negative)


def test_repeated_prompts_are_warned_of():
    with pytest.warns(PromptWarning, match="1 positive prompts are repeated"):
        ContrastSet((*PLUS, PLUS[0]), MINUS)


def test_a_wrapper_around_one_class_is_warned_of():
    wrapped = tuple(f"Please answer the following request: {prompt}" for prompt in MINUS)
    with pytest.warns(PromptWarning, match="Please answer the following request"):
        ContrastSet(PLUS, wrapped)
    with pytest.warns(PromptWarning, match="in the usual way"):
        ContrastSet(PLUS, tuple(f"{prompt} in the usual way" for prompt in MINUS))


def test_a_wrapper_around_both_classes_is_fine():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ContrastSet(tuple(f"how do I {p}" for p in PLUS), tuple(f"how do I {p}" for p in MINUS))


def test_splits_are_disjoint_and_seeded():
    contrast = ContrastSet(tuple(f"p{i}" for i in range(20)), tuple(f"n{i}" for i in range(20)))
    parts = contrast.split({"calibration": 10, "test": 8}, seed=3)
    assert not set(parts["calibration"].positive) & set(parts["test"].positive)
    assert len(parts["test"].negative) == 8
    assert parts["test"].sha256 == contrast.split({"calibration": 10, "test": 8}, seed=3)["test"].sha256
    assert parts["test"].sha256 != contrast.split({"calibration": 10, "test": 8}, seed=4)["test"].sha256
    with pytest.raises(ParameterError, match="30 prompts a class"):
        contrast.split({"a": 30})
