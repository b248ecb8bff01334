from itertools import pairwise

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
