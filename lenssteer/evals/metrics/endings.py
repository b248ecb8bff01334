"""Answers that say nothing, and answers that were cut off."""

import unicodedata

from lenssteer.errors import ParameterError

TERMINALS = frozenset(
    ".!?\u2026\u203c\u203d\u2047\u2048\u2049\u3002\uff01\uff0e\uff1f\uff61\u0589\u061f\u06d4\u0964\u0965\u104b\u1362\u1367\u17d4\u17d5"
)
"""Marks that end a sentence, and the ellipsis. Thai and Lao have none."""
CLOSING = ("Pe", "Pf", "Pi", "Cf", "Mn", "Me")
EMPHASIS = frozenset("\"'*_~`")


def empty(answer: str) -> bool:
    """Whether an answer holds no letter, digit or symbol; an emoji is a symbol, punctuation and spaces are not.

    >>> empty(" ...\\n"), empty("7")
    (True, False)
    """
    return not any(unicodedata.category(c) in ("Sm", "Sc", "So") or unicodedata.category(c)[0] in "LN" for c in answer)


def ends_sentence(answer: str) -> bool:
    """Whether an answer ends a sentence: by a full stop or its kin, an emoji, or a closed block of code.

    Closing quotes, brackets and Markdown emphasis after the stop do not matter. An empty answer ends none.

    >>> ends_sentence("He said \u201cno.\u201d"), ends_sentence("The next step is to")
    (True, False)
    """
    if answer.count("```") >= 2 and answer.count("```") % 2 == 0 and answer.rstrip().endswith("```"):
        return True
    for character in reversed(answer.rstrip()):
        category = unicodedata.category(character)
        if character in TERMINALS or category == "So":
            return True
        if character not in EMPHASIS and category not in (*CLOSING, "Sk", "Zs"):
            return False
    return False


def truncated(answer: str, *, tokens: int, limit: int) -> bool:
    """Whether an answer was cut off: it fills the token limit and does not end a sentence.

    A short answer without a full stop, such as one word, was not cut off; nor is an empty one at the limit, which
    is `empty`.

    Args:
        answer: As generated.
        tokens: Tokens it was generated in.
        limit: Most tokens it could have had.

    Raises:
        ParameterError: when there are more tokens than the limit allows, or the limit is below 1.
    """
    if limit < 1 or not 0 <= tokens <= limit:
        raise ParameterError(f"expected 0 <= tokens <= limit and a limit of at least 1; got {tokens} of {limit}.")
    return tokens == limit and not empty(answer) and not ends_sentence(answer)
