"""Conversations of several turns: the model's own answers become part of what it reads next."""

from collections.abc import Sequence
from dataclasses import dataclass

from lenssteer.errors import ParameterError, PromptError
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.progress import track
from lenssteer.prompts import Prompt, encode
from lenssteer.prompts.chat import PLACE


@dataclass(frozen=True)
class Dialogue:
    """A conversation as it went.

    Args:
        said: What the user says, turn by turn, as it was asked for.
        answers: The model's, for the turns that were reached.
        prompts: What was read before each answer: the conversation so far.
        ended: Why it ended before its last turn; "" where it did not.
    """

    said: tuple[str, ...]
    answers: tuple[str, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    ended: str = ""

    @property
    def going(self) -> bool:
        """Whether there is a turn left to answer."""
        return not self.ended and len(self.answers) < len(self.said)


def hold(model: LensModel, turns: Sequence[Sequence[str]], decoding: Decoding | None = None, *,
         system: str | None = None, template: str | None = None, batch_size: int | None = None,
         progress: str = "") -> list[Dialogue]:
    """Hold conversations; all take a turn together. One that outgrows the context ends there and keeps its answers.

    Where the template is a pattern such as "User: {prompt}\\nBot:", or none, earlier turns are written as text in
    that pattern.

    Args:
        model: Steered or not; a steerer stays on for the whole conversation.
        turns: For each conversation what the user says, turn by turn.
        decoding: How answers are drawn.
        system: System prompt of all.
        template: Prompt format.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there is no conversation, or one has no turn.
    """
    if not turns or not all(turns):
        raise ParameterError(f"expected conversations of at least one turn; got {sum(map(bool, turns))} of them.")
    decoding = decoding or Decoding()
    held = [Dialogue(tuple(said)) for said in turns]
    for _ in track(range(max(map(len, turns))), progress):
        running = [i for i, one in enumerate(held) if one.going]
        if not running:
            break
        asked = {i: next_prompt(model, held[i], template) for i in running}
        for i in _too_long(model, asked, decoding, template, system):
            held[i] = Dialogue(held[i].said, held[i].answers, held[i].prompts,
                               f"turn {len(held[i].answers) + 1} leaves no room for {decoding.max_new_tokens} new "
                               f"tokens in a context of {model.card.n_ctx}")
        fitting = [i for i in running if held[i].going]
        if fitting:
            given = generate(model, [asked[i] for i in fitting], decoding, template=template, system=system,
                             batch_size=batch_size)
            for i, answer in zip(fitting, given, strict=True):
                held[i] = Dialogue(held[i].said, (*held[i].answers, answer), (*held[i].prompts, asked[i]))
    return held


def converse(model: LensModel, turns: Sequence[Sequence[str]], decoding: Decoding | None = None, *,
             system: str | None = None, template: str | None = None, batch_size: int | None = None,
             progress: str = "") -> list[list[str]]:
    """Answers of conversations with the same number of turns, each of which must fit the context; see `hold`.

    Raises:
        ParameterError: when there is no conversation, or their numbers of turns differ.
        PromptError: when a conversation grows beyond the model's context.
    """
    if not turns or len({len(conversation) for conversation in turns}) > 1:
        raise ParameterError("expected conversations with the same number of turns; "
                             f"got {sorted({len(conversation) for conversation in turns})}.")
    held = hold(model, turns, decoding, system=system, template=template, batch_size=batch_size, progress=progress)
    for number, one in enumerate(held):
        if one.ended:
            raise PromptError(f"conversation {number}: {one.ended}; shorten it or lower max_new_tokens.")
    return [list(one.answers) for one in held]


def next_prompt(model: LensModel, held: Dialogue, template: str | None) -> Prompt:
    """The conversation so far and the user's next turn: messages where there is a chat template, else text."""
    kind, said = template or model.template, held.said[: len(held.answers) + 1]
    if kind == "chat" or (kind == "auto" and getattr(model.tokenizer, "chat_template", None)):
        messages: list[dict[str, str]] = []
        for mine, answer in zip(said, held.answers, strict=False):
            messages += [{"role": "user", "content": mine}, {"role": "assistant", "content": answer}]
        return (*messages, {"role": "user", "content": said[-1]})
    before, _, after = (kind if PLACE in kind else PLACE).partition(PLACE)
    space = "" if after.endswith(("\n", " ")) else " "
    return "".join(f"{mine}{after}{space}{answer}\n{before}"
                   for mine, answer in zip(said, held.answers, strict=False)) + said[-1]


def _too_long(model: LensModel, asked: dict[int, Prompt], decoding: Decoding, template: str | None,
              system: str | None) -> list[int]:
    """Conversations whose next answer may not fit the context."""
    encoded = encode(model.tokenizer, list(asked.values()), template=template or model.template, system=system)
    return [i for i, one in zip(asked, encoded, strict=True)
            if len(one.ids) + decoding.max_new_tokens > model.card.n_ctx]
