"""Unicode contamination: letters of a script the answer should not be in, as when a steered model drifts to Chinese."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from lenssteer.errors import ParameterError

SCRIPTS = tuple(
    "arabic armenian bengali bopomofo cyrillic devanagari ethiopic georgian greek gujarati gurmukhi han hangul hebrew "
    "hiragana kannada katakana khmer lao latin malayalam myanmar oriya sinhala tamil telugu thaana thai tibetan".split()
)
"""The scripts in everyday use, UAX 31 Table 5; letters of any other script count as "other"."""
ALIASES = {"cjk": "han", "ideographic": "han", "hentaigana": "hiragana"}
JAPANESE = frozenset(("han", "hiragana", "katakana"))


@lru_cache(maxsize=1 << 16)
def script(character: str) -> str | None:
    """Script of a letter, in lower case; None for what is no letter, or a letter that all scripts share.

    Digits, punctuation, curly quotes, dashes, spaces, emoji and combining marks are no letters. Mathematical
    alphabets, modifier letters and signs such as the micro are shared.

    >>> [script(c) for c in "a\u0436\u4e2d7"]
    ['latin', 'cyrillic', 'han', None]

    Raises:
        ParameterError: when not given exactly one character.

    Departs from the Unicode Script property: read off the character's name, which differs for a few rare letters.
    """
    if len(character) != 1:
        raise ParameterError(f"expected one character, got {character[:20]!r}; use script_shares for a text.")
    if not unicodedata.category(character).startswith("L"):
        return None
    name = unicodedata.name(character, "").lower().split() or [""]
    first = name[1] if name[0] in ("fullwidth", "halfwidth") else name[0]
    first = ALIASES.get(first, first)
    if first in SCRIPTS:
        return first
    shared = unicodedata.category(character) == "Lm" or unicodedata.normalize("NFKC", character) != character
    return None if shared else "other"


def script_shares(text: str) -> dict[str, float]:
    """Share of each script among the letters of a text, largest first; {} where there is no letter.

    >>> script_shares("abc\u4e2d!")
    {'latin': 0.75, 'han': 0.25}
    """
    counts = Counter(found for found in map(script, text) if found)
    return {name: count / counts.total() for name, count in counts.most_common()}


def expected_scripts(prompt: str) -> tuple[str, ...]:
    """Scripts an answer to a prompt may use: those of the prompt, latin where it has no letter.

    A prompt with kana may be answered in any of the three Japanese scripts.
    """
    found = set(script_shares(prompt))
    if found & {"hiragana", "katakana"}:
        found |= JAPANESE
    return tuple(sorted(found)) or ("latin",)


def contamination(text: str, expected: Iterable[str] = ("latin",)) -> float:
    """Share of the letters of a text that are outside the expected scripts; 0 where there is no letter.

    Args:
        text: An answer.
        expected: Scripts, such as "latin" and "greek"; `expected_scripts(prompt)` takes them from the prompt.

    Raises:
        ParameterError: when no script is expected, or one is unknown.

    Source: the language consistency of Dang & Ngo 2026, arXiv:2601.19375, Table 4, is 1 - contamination.
    Departs from the authors' code: only letters count, so curly quotes, dashes and emoji are not foreign.
    """
    allowed = {expected} if isinstance(expected, str) else set(expected)
    unknown = allowed - {*SCRIPTS, "other"}
    if unknown or not allowed:
        raise ParameterError(f"expected at least one of the scripts {', '.join(SCRIPTS)} or other; "
                             f"got {sorted(unknown) or 'none'}.")
    return sum((share for name, share in script_shares(text).items() if name not in allowed), 0.0)
