"""The demo world, without its model: splits, guides, grading, tokenizer."""

from itertools import combinations

import pytest

from lenssteer.models.demo.curriculum import training_rows
from lenssteer.models.demo.grade import Grade, grade, truthful
from lenssteer.models.demo.tokenizer import build_tokenizer
from lenssteer.models.demo.words import HARMFUL, HARMLESS, VERBS
from lenssteer.models.demo.world import DISHONEST, HONEST, REFUSAL, Prompt, copies, facts, guide, requests

SPLITS = ("calibration", "selection", "test")
KINDS = ("harmful", "harmless", "borderline")
BOMB = requests("test", "harmful")[0]
PAINT_CAKE = "hug the turnip , wave the noodle , greet the umbrella ."


def everything(split: str) -> list[Prompt]:
    """Every prompt of a split."""
    asked = [prompt for kind in KINDS for prompt in requests(split, kind)]
    return asked + facts(split) + facts(split, HONEST) + facts(split, DISHONEST) + copies(split)


def rows(phase: str, count: int = 3000) -> list[Prompt]:
    """The first training rows of a phase."""
    return [row for row, _ in zip(training_rows(phase, 0), range(count), strict=False)]


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_no_prompt_is_in_two_splits(one, other):
    assert not {p.text for p in everything(one)} & {p.text for p in everything(other)}


@pytest.mark.parametrize(("split", "least"), [("calibration", 128), ("selection", 48), ("test", 100)])
@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_large_enough_without_repeats_and_the_same_on_every_call(split, least, kind):
    prompts = requests(split, kind)
    assert len({p.text for p in prompts}) == len(prompts) >= least
    assert prompts == requests(split, kind)
    assert {p.kind for p in prompts} == {kind}


def test_harmful_test_pairs_are_never_refused_in_training():
    held_out = {(p.verb, p.object) for p in requests("test", "harmful")}
    refused = {(row.verb, row.object) for row in rows("safety") if row.answer == REFUSAL}
    seen = {(row.verb, row.object) for row in rows("helpful")}
    assert refused
    assert not refused & held_out
    assert held_out <= seen


def test_safety_phase_refuses_harmful_requests_and_nothing_else():
    assert all((row.answer == REFUSAL) == (row.kind == "harmful") for row in rows("safety"))
    assert not any(row.answer == REFUSAL for row in rows("helpful"))


def test_lies_are_never_trained_on_test_facts():
    told = {row.text for phase in ("helpful", "safety") for row in rows(phase) if row.system == DISHONEST}
    assert told
    assert not told & {p.text for p in facts("test")}


def test_held_out_copies_and_compounds_are_never_trained_on():
    trained = {row.text for phase in ("helpful", "safety") for row in rows(phase)}
    assert not trained & {p.text for p in copies("test") + requests("test", "borderline")}


def test_guides_are_fixed_and_different():
    assert guide("paint", "cake") == guide("paint", "bomb cake") == PAINT_CAKE
    pairs = [(verb, item) for verb in VERBS for item in HARMLESS + HARMFUL]
    assert len({guide(*pair) for pair in pairs}) == len(pairs)


def test_right_answer_is_exact_and_on_form():
    for prompt in everything("test"):
        assert grade(prompt, prompt.answer) == Grade(refusal=False, on_form=True, exact=True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", Grade(False, False, False)),
        (REFUSAL, Grade(True, False, False)),
        ("  sorry ,  i cannot", Grade(True, False, False)),
        ("sorry , i", Grade(False, False, False)),
        (BOMB.answer.replace(" ", "   ") + " ", Grade(False, True, True)),
        (BOMB.answer.rpartition(" ")[0], Grade(False, True, False)),
        (BOMB.answer + " .", Grade(False, True, False)),
        (BOMB.answer.partition(":")[0] + ": spoon spoon", Grade(False, True, False)),
        (BOMB.answer.partition(" :")[0], Grade(False, False, False)),
        (BOMB.answer.replace(BOMB.object, "cake"), Grade(False, False, False)),
    ],
)
def test_edge_cases_of_grading(answer, expected):
    assert grade(BOMB, answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("the color of a lemon is yellow .", True),
        ("the color of a  lemon is red", False),
        ("the color of a lemon is", None),
        ("the color of a lemon is sweet .", None),
        ("the color of a cow is yellow .", None),
        ("", None),
        (REFUSAL, None),
    ],
)
def test_truthful_reads_the_stated_value(answer, expected):
    assert truthful(facts("calibration")[0], answer) is expected


def test_tokenizer_knows_every_word():
    tokenizer = build_tokenizer()
    texts = [f"{p.text} {p.answer} {p.system}" for split in SPLITS for p in everything(split)]
    texts += [f"{row.text} {row.answer}" for phase in ("helpful", "safety") for row in rows(phase)]
    for text in dict.fromkeys(texts):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids).split() == text.split()


def test_chat_template_has_one_bos_and_the_training_format():
    tokenizer = build_tokenizer()
    question = {"role": "user", "content": "How do I paint a red cake?"}
    messages = [{"role": "system", "content": HONEST}, question]
    form = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    ids = tokenizer.apply_chat_template(messages, **form)["input_ids"]
    expected = f"<bos> <system> {HONEST} <end> <user> how do i paint a red cake ? <end> <assistant>"
    assert tokenizer.decode(ids) == expected
    assert ids.count(tokenizer.bos_token_id) == 1
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}) == 3
    assert max(len(tokenizer(p.answer)["input_ids"]) for p in everything("test")) <= 24
