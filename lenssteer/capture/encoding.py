"""From a contrast of either kind to token ids, and whether its answers differ where they are read."""

from lenssteer.capture.positions import ReadAt
from lenssteer.errors import PromptError
from lenssteer.models import LensModel
from lenssteer.prompts import AnswerContrast, ContrastSet, Encoded


def encode_contrast(model: LensModel, contrast: ContrastSet | AnswerContrast, *, template: str | None = None,
                    system: str | None = None, at: ReadAt | None = None) -> list[Encoded]:
    """Tokenise the positive prompts or exchanges, then the negative ones.

    Args:
        model: Its tokenizer and context length are used.
        contrast: Prompts, or exchanges.
        template: Prompt format.
        system: System prompt for all.
        at: What will be read; an answer token is then checked.

    Raises:
        PromptError: when an answer has no token at `at`, or an exchange of each class has the same tokens up to
            there, so that their activations are the same: "(A)" and "(B)" read at "(".
    """
    if isinstance(contrast, ContrastSet):
        return model.encode([*contrast.positive, *contrast.negative], template=template, system=system)
    exchanges = [*contrast.positive, *contrast.negative]
    encoded = model.encode([e.prompt for e in exchanges], template=template, system=system,
                           answers=[e.answer for e in exchanges])
    if at is not None and at.from_answer:
        _require_difference(model, encoded, len(contrast.positive), at)
    return encoded


def _require_difference(model: LensModel, encoded: list[Encoded], n_positive: int, at: ReadAt) -> None:
    short = [i for i, one in enumerate(encoded) if one.prompt_end > len(one.ids) + at.index]
    if short:
        raise PromptError(f"exchange {short[0]} has no token at {at} ({len(short)} such): its answer is "
                          f"{_words(model, encoded[short[0]])}; read another token with at=.")
    read = [one.ids[: len(one.ids) + at.index + 1] for one in encoded]
    negative = dict(zip(read[n_positive:], encoded[n_positive:], strict=True))
    same = [i for i, ids in enumerate(read[:n_positive]) if ids in negative]
    if same:
        answers = [_words(model, one) for one in (encoded[same[0]], negative[read[same[0]]])]
        raise PromptError(f"{len(same)} exchanges have the same tokens in both classes up to {at}, so there is nothing "
                          f"to learn from them; the answers of the first are {answers[0]} and {answers[1]}. Read "
                          "a token where they differ with at=.")


def _words(model: LensModel, one: Encoded) -> str:
    """An answer's tokens, as far as a message needs them."""
    tokens = [model.tokenizer.decode([token]) for token in one.ids[one.prompt_end :]]
    return f"{tokens[:8]}" + (f" and {len(tokens) - 8} more" if len(tokens) > 8 else "")
