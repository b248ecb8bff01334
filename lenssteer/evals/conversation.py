"""Conversations of several turns: the model's own answers become part of what it reads next."""

from collections.abc import Sequence

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.prompts import Prompt


def converse(model: LensModel, turns: Sequence[Sequence[str]], decoding: Decoding | None = None, *,
             system: str | None = None, template: str | None = None, batch_size: int = 64,
             progress: str = "") -> list[list[str]]:
    """Answers of every conversation, turn by turn; all conversations take a turn together.

    Args:
        model: Steered or not; a steerer stays on for the whole conversation.
        turns: For each conversation what the user says, turn by turn; all with the same number of turns.
        decoding: How answers are drawn.
        system: System prompt of all.
        template: Prompt format; it must take conversations.
        batch_size: Most rows of a batch.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there is no conversation, or their numbers of turns differ.
        PromptError: when a conversation grows beyond the model's context.
    """
    if not turns or len({len(conversation) for conversation in turns}) > 1:
        raise ParameterError("expected conversations with the same number of turns; "
                             f"got {sorted({len(conversation) for conversation in turns})}.")
    history: list[list[dict[str, str]]] = [[] for _ in turns]
    answers: list[list[str]] = [[] for _ in turns]
    for turn in range(len(turns[0])):
        for messages, said in zip(history, turns, strict=True):
            messages.append({"role": "user", "content": said[turn]})
        asked: list[Prompt] = [tuple(messages) for messages in history]
        given = generate(model, asked, decoding, template=template, system=system, batch_size=batch_size,
                         progress=progress)
        for messages, mine, answer in zip(history, answers, given, strict=True):
            messages.append({"role": "assistant", "content": answer})
            mine.append(answer)
    return answers
