from itertools import pairwise

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer.errors import ParameterError
from lenssteer.prompts import Columns, pad
from lenssteer.prompts.tokens import Encoded
from lenssteer.steering import Where

RULES = ["all", "prompt", "generated", "after_instruction", "last_prompt", "first_n(2)"]
#              template instruction after  answer
LONG = Encoded(tuple(range(8)), (2, 4), 6)
SHORT = Encoded(tuple(range(5)), (1, 2), 4)
TOKENS = pad([LONG, SHORT])
EXPECTED = {
    "all": ([0, 1, 2, 3, 4, 5, 6, 7], [3, 4, 5, 6, 7]),
    "prompt": ([0, 1, 2, 3, 4, 5], [3, 4, 5, 6]),
    "generated": ([6, 7], [7]),
    "after_instruction": ([4, 5, 6, 7], [5, 6, 7]),
    "last_prompt": ([5], [6]),
    "first_n(2)": ([6, 7], [7]),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_chooses_the_tokens_it_names(rule):
    chosen = Where.parse(rule).select(Columns(0, TOKENS.mask, TOKENS))
    assert tuple(row.nonzero()[:, 0].tolist() for row in chosen) == EXPECTED[rule]


@settings(max_examples=40, deadline=None)
@given(cuts=st.sets(st.integers(1, 7)), rule=st.sampled_from(RULES))
def test_chunks_of_a_cached_run_choose_the_same_tokens_as_one_pass(cuts, rule):
    where = Where.parse(rule)
    whole = where.select(Columns(0, TOKENS.mask, TOKENS))
    edges = [0, *sorted(cuts), 8]
    parts = [where.select(Columns(a, TOKENS.mask[:, :b], TOKENS)) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat(parts, -1), whole)


@settings(max_examples=40, deadline=None)
@given(rule=st.sampled_from(RULES))
def test_a_row_alone_chooses_the_same_tokens_as_in_a_batch(rule):
    where = Where.parse(rule)
    both = where.select(Columns(0, TOKENS.mask, TOKENS))
    for row, one in enumerate((LONG, SHORT)):
        alone = pad([one])
        expected = where.select(Columns(0, alone.mask, alone))[0]
        assert torch.equal(both[row][TOKENS.mask[row]], expected)


@pytest.mark.parametrize("rule", RULES)
def test_padding_is_never_chosen(rule):
    chosen = Where.parse(rule).select(Columns(0, TOKENS.mask, TOKENS))
    assert not (chosen & ~TOKENS.mask).any()


def test_finished_rows_are_padding_too():
    mask = torch.cat([TOKENS.mask, torch.tensor([[True], [False]])], -1)
    assert Where().select(Columns(8, mask, TOKENS)).tolist() == [[True], [False]]


def test_rules_are_read_from_their_names():
    for rule in RULES:
        assert str(Where.parse(rule)) == rule
    assert Where.parse(Where.first_n(2)) == Where.first_n(2)


@pytest.mark.parametrize("rule", ["prompts", "first_n", "first_n(0)", "first_n(-1)", "first_n(x)", ""])
def test_unknown_rules_are_refused(rule):
    with pytest.raises(ParameterError):
        Where.parse(rule)


def test_only_first_n_takes_a_number():
    with pytest.raises(ParameterError, match="only first_n"):
        Where("prompt", 2)


@pytest.mark.parametrize(("rule", "message"), [
    ("promt", r"unknown rule 'promt'; expected one of all, prompt, generated, after_instruction, last_prompt, first_n\(3\)\. Did you mean 'prompt'"),
    ("first_n", r"unknown rule 'first_n'.*Did you mean 'first_n\(3\)'"), ("first_n(0)", "where='first_n' with n=0: only first_n takes n, and it must be positive"),
    ("first_n(3", "unknown rule"), ("xfirst_n(3)", "unknown rule"), ("first_n(1.5)", "unknown rule"),
])
def test_what_is_wrong_with_a_rule_is_told(rule, message):
    with pytest.raises(ParameterError, match=message):
        Where.parse(rule)


def test_rules_made_by_hand_are_checked():
    jaxtyping.config.update("jaxtyping_disable", True)  # which would refuse first
    try:
        with pytest.raises(ParameterError, match=r"unknown rule 'promt'; expected one of all, .*first_n\(3\)\. Did you mean 'prompt'"):
            Where("promt")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    with pytest.raises(ParameterError, match="where='first_n' with n=-2"):
        Where.first_n(-2)
    with pytest.raises(ParameterError, match="where='all' with n=1"):
        Where("all", 1)
    assert (Where().kind, Where().n, Where.first_n(1).n) == ("all", 0, 1)
    assert Where.parse("first_n(12)") == Where("first_n", 12)


@pytest.mark.parametrize("rule", RULES)
def test_rules_know_whether_they_choose_prompt_tokens(rule):
    chosen = Where.parse(rule).select(Columns(0, TOKENS.mask, TOKENS))
    assert Where.parse(rule).edits_prompt == bool((chosen & (torch.arange(8) < TOKENS.prompt_end.unsqueeze(-1))).any())
