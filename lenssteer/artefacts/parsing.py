"""JSON that means one thing: no duplicate keys, nothing that is not a number, no depth that exhausts the stack."""

import json
import math
import re
from typing import Any

from lenssteer.artefacts import limits
from lenssteer.errors import FileError, LenssteerError

BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{}]', re.DOTALL)
"""Linear in a text that is JSON; in others an open string would be searched again and again."""
LONG_NUMBER = re.compile(r"\d{18}|[eE]\+?\d{3}")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class _Refused(ValueError):
    """Why a text is refused, in words."""


def parse(text: bytes | str, where: object, *, constants: bool = False, fault: str = "is damaged",
          error: type[LenssteerError] = FileError) -> Any:
    """The value of a JSON text.

    >>> parse('{"a": [1, 2.5]}', "text")
    {'a': [1, 2.5]}

    Args:
        text: UTF-8 where it is bytes.
        where: The file, and the line where there are several; messages begin with it.
        constants: Whether NaN and Infinity pass, as Python writes them.
        fault: What is said of it in a word.
        error: What is raised.

    Raises:
        FileError: or `error`, when it is no JSON, repeats a key, is nested deeper than `limits.DEPTH`, or holds a
            number or text that JSON, 64 bits or Unicode do not have.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        long = LONG_NUMBER.search(text) is not None
        found = json.loads(text, object_pairs_hook=_once, parse_constant=CONSTANTS.__getitem__ if constants else _none,
                           parse_int=_whole if long else None, parse_float=_finite if long else None)
        _refuse_depth(text)
        if SURROGATE.search(text):
            _refuse_half_characters(found)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where} {fault}: {reason}. Copy it again, or make it again.") from reason
    return found


def _refuse_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= limits.DEPTH:
        return
    depth = 0
    for bracket in BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket[0], 0)
        if depth > limits.DEPTH:
            raise _Refused(f"it is nested deeper than {limits.DEPTH} lists and objects")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        again = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise _Refused(f"the key {again[:80]!r} stands twice in one object")
    return found


def _none(name: str) -> Any:
    raise _Refused(f"{name} is no number that JSON has")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f"the number {digits[:20]}... is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > limits.DIGITS:
        raise _Refused(f"the whole number {digits[:20]}... has more than {limits.DIGITS} digits")
    return int(digits)


def _refuse_half_characters(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _Refused("a text holds half of a character (a lone surrogate), which is not Unicode") from None
