"""Compression: repetitive text becomes short when compressed."""

import zlib

from lenssteer.errors import ParameterError


def compression_ratio(text: str) -> float:
    """Compressed over plain length in UTF-8 bytes; repetitive text is near 0, an empty text is 1.

    Short texts score high, above 1 when very short, so a model that refuses more looks more coherent: compare
    answers by `windowed_compression` unless a paper's number is wanted.

    Source: Dang & Ngo 2026, arXiv:2601.19375, Table 4, and the authors' code: zlib at level 9.
    """
    raw = text.encode()
    return len(zlib.compress(raw, 9)) / len(raw) if raw else 1.0


def windowed_compression(text: str, window: int = 256) -> float | None:
    """Mean `compression_ratio` of consecutive windows of equal length; None for a text shorter than one window.

    Text of even quality has the same value however long it is. Bytes after the last full window do not count, and
    a loop longer than a window is not seen: `tail_loop` finds it.

    Args:
        text: An answer.
        window: In UTF-8 bytes; a Chinese character has three, so compare texts of one script.

    Raises:
        ParameterError: when the window is below 1.
    """
    if window < 1:
        raise ParameterError(f"window is {window}; expected at least one byte.")
    raw = text.encode()
    starts = range(0, len(raw) - window + 1, window)
    found = [len(zlib.compress(raw[start : start + window], 9)) / window for start in starts]
    return sum(found) / len(found) if found else None
