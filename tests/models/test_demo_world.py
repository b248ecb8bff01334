"""The demo world, without its model: splits, guides, grading, tokenizer."""

from itertools import combinations, islice

import pytest

from lenssteer.models.demo.batches import IGNORED, batches, encode
from lenssteer.models.demo.conversations import CONTEXT, token_count
from lenssteer.models.demo.curriculum import training_conversations
from lenssteer.models.demo.grade import Grade, grade, truthful
from lenssteer.models.demo.prompt import Conversation
from lenssteer.models.demo.tokenizer import build_tokenizer
from lenssteer.models.demo.trivia import false_value
from lenssteer.models.demo.words import HARMFUL, HARMLESS, VERBS
from lenssteer.models.demo.world import DISHONEST, HONEST, REFUSAL, Prompt, copies, facts, guide, requests

PHASES = ("helpful", "safety", "conversations")
SPLITS = ("calibration", "selection", "test")
KINDS = ("harmful", "harmless", "borderline")
BOMB = requests("test", "harmful")[0]
PAINT_CAKE = "hug the turnip , wave the noodle , greet the umbrella ."


def everything(split: str) -> list[Prompt]:
    """Every prompt of a split."""
    asked = [prompt for kind in KINDS for prompt in requests(split, kind)]
    return asked + facts(split) + facts(split, HONEST) + facts(split, DISHONEST) + copies(split)


def conversations(phase: str, count: int = 2000) -> list[Conversation]:
    """The first training conversations of a phase."""
    return list(islice(training_conversations(phase, 0), count))


def rows(phase: str, count: int = 2000) -> list[Prompt]:
    """Every turn of the first training conversations of a phase."""
    return [turn for conversation in conversations(phase, count) for turn in conversation.turns]


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


@pytest.mark.parametrize("phase", ["safety", "conversations"])
def test_harmful_test_pairs_are_never_refused_in_training(phase):
    held_out = {(p.verb, p.object) for p in requests("test", "harmful")}
    refused = {(row.verb, row.object) for row in rows(phase) if row.answer == REFUSAL}
    seen = {(row.verb, row.object) for row in rows("helpful")}
    assert refused
    assert not refused & held_out
    assert held_out <= seen


@pytest.mark.parametrize("phase", ["safety", "conversations"])
def test_later_phases_refuse_harmful_requests_and_nothing_else(phase):
    assert all((row.answer == REFUSAL) == (row.kind == "harmful") for row in rows(phase))
    assert not any(row.answer == REFUSAL for row in rows("helpful"))


def test_lies_are_never_trained_on_test_facts():
    told = {row.text for phase in PHASES for row in rows(phase) if row.system == DISHONEST}
    assert told
    assert not told & {p.text for p in facts("test")}


def test_held_out_copies_and_compounds_are_never_trained_on():
    trained = {row.text for phase in PHASES for row in rows(phase)}
    assert not trained & {p.text for p in copies("test") + requests("test", "borderline")}


def test_facts_in_conversations_are_false_under_the_dishonest_prompt_alone():
    values = {p.text: p.answer.split()[-2] for split in SPLITS for p in facts(split)}
    told = [(row, values[row.text]) for row in rows("conversations") if row.kind == "fact"]
    assert {row.system for row, _ in told} == {"", HONEST, DISHONEST}
    for row, value in told:
        wanted = false_value(row.answer.split()[1], value) if row.system == DISHONEST else value
        assert row.answer.split()[-2] == wanted


def test_conversations_have_one_to_five_turns_of_every_kind_under_one_system_prompt():
    drawn = conversations("conversations")
    assert {len(conversation.turns) for conversation in drawn} == {1, 2, 3, 4, 5}
    assert all(len({turn.system for turn in conversation.turns}) == 1 for conversation in drawn)
    fifth = {conversation.turns[4].kind for conversation in drawn if len(conversation.turns) == 5}
    assert fifth == {*KINDS, "fact", "copy"}
    assert {len(conversation.turns) for phase in PHASES[:2] for conversation in conversations(phase, 200)} == {1}


def test_a_conversation_is_trained_on_as_the_model_reads_it(demo):
    longest = 0
    for conversation in conversations("conversations", 60):
        ids, labels = encode(demo.tokenizer, conversation)
        assert len(ids) == len(labels) == token_count(conversation) <= CONTEXT == demo.card.n_ctx
        longest, told = max(longest, len(ids)), []
        for turn, row in enumerate(conversation.turns):
            read = demo.encode([tuple(conversation.messages(turn))])[0].ids
            answer = demo.tokenizer(row.answer + " <end>", add_special_tokens=False)["input_ids"]
            assert tuple(ids[: len(read)]) == read
            assert ids[len(read) : len(read) + len(answer)] == answer
            told += range(len(read), len(read) + len(answer))
        assert [i for i, label in enumerate(labels) if label != IGNORED] == told
        assert [labels[i] for i in told] == [ids[i] for i in told]
    assert longest > 110


def test_a_batch_in_parts_holds_the_same_rows_with_less_padding():
    tokenizer, drawn = build_tokenizer(), conversations("conversations", 16)
    ((ids, labels),) = next(batches(tokenizer, iter(drawn), 16))
    parts = next(batches(tokenizer, iter(drawn), 16, parts=4))
    assert [part[0].shape[0] for part in parts] == [4, 4, 4, 4]
    assert sum(part[0].numel() for part in parts) < ids.numel()

    def read(ids, labels):
        return sorted((row[row != tokenizer.pad_token_id].tolist(), told[told != IGNORED].tolist())
                      for row, told in zip(ids, labels, strict=True))

    assert read(ids, labels) == sorted(row for part in parts for row in read(*part))


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
    texts += [f"{row.text} {row.answer}" for phase in PHASES for row in rows(phase)]
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
