"""Progress bars: on a terminal only, and only when a label asks for one."""

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T], label: str) -> Iterable[T]:
    """The items, with a bar on standard error that shows rate and time left; plain where nobody looks.

    >>> list(track([1, 2], ""))
    [1, 2]
    """
    if not label or not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track as rich_track

    return rich_track(items, description=label, console=Console(stderr=True), transient=True)
