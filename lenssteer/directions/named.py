"""Looking a name up in a catalogue."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from lenssteer.errors import ParameterError

T = TypeVar("T")


def look_up(catalogue: Mapping[str, T], name: str, noun: str) -> T:
    """The entry of that name.

    Raises:
        ParameterError: when there is none; the nearest name is suggested.
    """
    if name not in catalogue:
        close = difflib.get_close_matches(name, list(catalogue), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ParameterError(f"unknown {noun} {name!r}; expected one of {', '.join(catalogue)}.{hint}")
    return catalogue[name]
