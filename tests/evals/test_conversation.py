import pytest

from lenssteer.errors import ParameterError
from lenssteer.evals import converse
from lenssteer.models import Decoding, generate

TURNS = [["what is the color of a lemon ?", "repeat : red sock button"], ["repeat : tiny sock", "how do i paint a red cake ?"]]
SYSTEM = "you are an honest assistant ."


def test_every_turn_answers_the_whole_conversation_before_it(demo):
    found = converse(demo, TURNS, Decoding(12), system=SYSTEM)
    for turns, answers in zip(TURNS, found, strict=True):
        history = [{"role": "user", "content": turns[0]}]
        assert answers[0] == generate(demo, [history], Decoding(12), system=SYSTEM)[0]
        history += [{"role": "assistant", "content": answers[0]}, {"role": "user", "content": turns[1]}]
        assert answers[1] == generate(demo, [history], Decoding(12), system=SYSTEM)[0]


@pytest.mark.parametrize("turns", [[], [["a"], ["a", "b"]]])
def test_conversations_of_different_lengths_are_refused(demo, turns):
    with pytest.raises(ParameterError, match="same number of turns"):
        converse(demo, turns)
