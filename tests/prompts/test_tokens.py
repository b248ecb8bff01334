import pytest
import torch

from lenssteer.errors import PromptError
from lenssteer.prompts import batches, encode, pad
from tests.models.tiny_models import tiny_model

KINDS = ["llama", "qwen2", "gpt2"]


@pytest.fixture(scope="module")
def tokenizers():
    return {kind: tiny_model(kind)[1] for kind in KINDS}


def bos_count(tokenizer, ids) -> int:
    return sum(token == tokenizer.bos_token_id for token in ids[:3])


@pytest.mark.parametrize("template", ["none", "User: {prompt} Bot:"])
def test_exactly_one_bos_where_the_tokenizer_has_one(tokenizers, template):
    for tokenizer in tokenizers.values():
        ids = encode(tokenizer, ["the cat sat"], template=template)[0].ids
        assert bos_count(tokenizer, ids) == (tokenizer.bos_token_id is not None)


def test_a_template_with_its_own_bos_gets_no_second(tokenizers):
    tokenizer = tokenizers["llama"]
    one = encode(tokenizer, ["the cat sat"], template="chat")[0]
    theirs = tokenizer.apply_chat_template([{"role": "user", "content": "the cat sat"}], add_generation_prompt=True,
                                           tokenize=True, return_dict=True)["input_ids"]
    assert list(one.ids) == list(theirs)
    assert bos_count(tokenizer, one.ids) == 1


def test_a_bos_typed_by_the_user_is_not_doubled(tokenizers):
    tokenizer = tokenizers["llama"]
    plain = encode(tokenizer, ["the cat sat"], template="none")[0]
    typed = encode(tokenizer, [f"{tokenizer.bos_token}the cat sat"], template="none")[0]
    assert bos_count(tokenizer, typed.ids) == bos_count(tokenizer, plain.ids) == 1


def test_the_instruction_is_found(demo):
    for prompt in ("how do i paint a red cake ?", "cake"):
        one = demo.encode([prompt])[0]
        start, end = one.instruction
        assert demo.tokenizer.decode(one.ids[start:end]).strip() == prompt
        assert one.prompt_end == len(one.ids)
        assert end < one.prompt_end, "the template goes on after the instruction"


def test_a_system_prompt_comes_before_the_instruction(demo):
    from lenssteer.models.demo.world import HONEST

    plain, guided = demo.encode(["cake"])[0], demo.encode(["cake"], system=HONEST)[0]
    assert len(guided.ids) > len(plain.ids)
    start, end = guided.instruction
    assert demo.tokenizer.decode(guided.ids[start:end]).strip() == "cake"
    assert guided.ids[end:] == plain.ids[plain.instruction[1]:]


def test_conversations_end_with_a_user_turn(demo):
    turns = [{"role": "user", "content": "cake"}, {"role": "assistant", "content": "no"},
             {"role": "user", "content": "kite"}]
    one = demo.encode([turns])[0]
    assert demo.tokenizer.decode(one.ids[slice(*one.instruction)]).strip() == "kite"
    with pytest.raises(PromptError, match="user turn"):
        demo.encode([turns[:2]])


def test_patterns_place_the_prompt(tokenizers):
    tokenizer = tokenizers["gpt2"]
    one = encode(tokenizer, ["the cat"], template="the dog {prompt} sat")[0]
    assert tokenizer.decode(one.ids[slice(*one.instruction)]).strip() == "the cat"
    with pytest.raises(PromptError, match="pattern"):
        encode(tokenizer, ["x"], template="no place")
    with pytest.raises(PromptError, match="chat template"):
        encode(tokenizer, ["x"], template="none", system="be kind")


def test_answers_are_appended(demo):
    plain, answered = demo.encode(["cake"])[0], demo.encode(["cake"], answers=["the kite"])[0]
    assert answered.ids[: answered.prompt_end] == plain.ids
    assert demo.tokenizer.decode(answered.ids[answered.prompt_end:]).strip() == "the kite"


def test_padding_is_on_the_left_and_marks_move_with_it(demo):
    encoded = demo.encode(["cake", "how do i paint a red cake ?"], answers=["the kite", "a"])
    tokens = pad(encoded, pad_id=3)
    assert tokens.mask[:, -1].all()
    for row, one in enumerate(encoded):
        assert tuple(tokens.ids[row][tokens.mask[row]].tolist()) == one.ids
        assert tuple(tokens.ids[row, slice(*tokens.instruction[row].tolist())].tolist()) == one.ids[slice(*one.instruction)]
        assert tokens.ids[row, tokens.prompt_end[row]:].tolist() == list(one.ids[one.prompt_end:])


def test_empty_and_overlong_prompts_are_refused(demo):
    with pytest.raises(PromptError, match="no prompts"):
        demo.encode([])
    with pytest.raises(PromptError, match=r"prompt 1 has \d+ tokens, the model takes"):
        demo.encode(["cake", "cake " * demo.card.n_ctx])


def test_batches_hold_every_prompt_once_and_respect_both_limits(demo):
    encoded = demo.encode(["cake " * n for n in (1, 9, 3, 4, 4, 7, 1, 2)])
    groups = batches(encoded, tokens=40, rows=3)
    assert sorted(i for group in groups for i in group) == list(range(8))
    for group in groups:
        assert len(group) <= 3
        assert len(group) == 1 or len(group) * max(len(encoded[i].ids) for i in group) <= 40
    longest = [len(encoded[group[0]].ids) for group in groups]
    assert longest == sorted(longest, reverse=True)
    assert torch.equal(pad([encoded[i] for i in groups[0]], rows=groups[0]).rows, torch.tensor(groups[0]))
