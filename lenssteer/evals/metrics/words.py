"""Words: what n-gram measures count in."""

import re

UNSPACED = ("\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
            "\U00020000-\U0003ffff")
"""Thai, Lao, Myanmar, Khmer, kana and Han: written without spaces between words."""
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def words(text: str) -> list[str]:
    """Whitespace-separated words; in scripts written without spaces every character is a word of its own.

    >>> words("Spin it, please. \u597d\u7684")
    ['Spin', 'it,', 'please.', '\u597d', '\u7684']
    """
    return WORD.findall(text)


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """Every run of n words, in order; [] where there are fewer than n."""
    found = words(text)
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
