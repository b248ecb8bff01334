"""Conversations of several turns that fit the demo model's context."""

import random
from collections.abc import Callable
from dataclasses import replace

from lenssteer.models.demo.prompt import Conversation, Prompt
from lenssteer.models.demo.words import DISHONEST, HONEST

CONTEXT = 128
SYSTEMS = ("", HONEST, DISHONEST)
TURNS = (2, 3, 4, 5, 5)
"""Numbers of turns, drawn with equal chances; the fifth turn is the hardest and comes twice as often."""


def token_count(conversation: Conversation) -> int:
    """Tokens of a whole conversation, its last `<end>` included: a word is a token, and a turn has four marks.

    >>> token_count(Conversation((Prompt("repeat : a b c", "copy", "a b c ."),)))
    14
    """
    system = conversation.turns[0].system
    opening = 1 + (len(system.split()) + 2 if system else 0)
    return opening + sum(len(turn.text.split()) + len(turn.answer.split()) + 4 for turn in conversation.turns)


def draw_conversation(draw_turn: Callable[[str], Prompt], rng: random.Random) -> Conversation:
    """A conversation of two to five turns that fits the context; `draw_turn` draws a turn under a system prompt."""
    system, turns = rng.choice(SYSTEMS), rng.choice(TURNS)
    while True:
        drawn = Conversation(tuple(replace(draw_turn(system), system=system) for _ in range(turns)))
        if token_count(drawn) <= CONTEXT:
            return drawn
