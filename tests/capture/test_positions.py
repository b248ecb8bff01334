import pytest
import torch

from lenssteer.capture import ReadAt
from lenssteer.errors import ParameterError, PromptError
from lenssteer.prompts import pad
from lenssteer.prompts.tokens import Encoded

LONG = Encoded(tuple(range(8)), (2, 4), 6)
SHORT = Encoded(tuple(range(5)), (1, 2), 4)
TOKENS = pad([LONG, SHORT])


@pytest.mark.parametrize(("at", "expected"), [
    ("last", ({5: 1}, {6: 1})),
    ("last_instruction", ({3: 1}, {4: 1})),
    ("offset(-2)", ({4: 1}, {5: 1})),
    ("mean(prompt)", (dict.fromkeys(range(6), 1 / 6), dict.fromkeys(range(3, 7), 1 / 4))),
    ("mean(instruction)", ({2: 1 / 2, 3: 1 / 2}, {4: 1})),
    ("mean(after_instruction)", ({4: 1 / 2, 5: 1 / 2}, {5: 1 / 2, 6: 1 / 2})),
    ("mean(answer)", ({6: 1 / 2, 7: 1 / 2}, {7: 1})),
])
def test_every_position_reads_the_columns_it_names(at, expected):
    weights = ReadAt.parse(at).weights(TOKENS)
    for row, columns in enumerate(expected):
        wanted = torch.zeros(8)
        for column, weight in columns.items():
            wanted[column] = weight
        torch.testing.assert_close(weights[row], wanted)
    assert str(ReadAt.parse(at)) == at


def test_prompts_that_are_too_short_are_refused():
    with pytest.raises(PromptError, match=r"prompt 1 has no token at offset\(-5\)"):
        ReadAt.offset(-5).weights(TOKENS)
    with pytest.raises(PromptError, match="has no answer"):
        ReadAt.mean("answer").weights(pad([Encoded((1, 2), (0, 2), 2)]))


@pytest.mark.parametrize("at", ["first", "offset(2)", "offset(x)", "mean(all)", "mean()", ""])
def test_unknown_positions_are_refused(at):
    with pytest.raises(ParameterError):
        ReadAt.parse(at)


def test_named_constructors():
    assert ReadAt.last() == ReadAt.parse("last")
    assert ReadAt.last_instruction() == ReadAt.parse("last_instruction")
    assert ReadAt.mean("prompt") == ReadAt.parse("mean(prompt)")
