"""What the parent process tells vLLM's processes, through the environment: the shelf, and the sites that get an op."""

import os
from functools import cache
from pathlib import Path

from lenssteer.engines.vllm.shelf import Shelf
from lenssteer.site import Site

STEERERS, SITES = "LENSSTEER_STEERERS", "LENSSTEER_SITES"


@cache
def _opened(folder: str, grows: bool) -> Shelf:
    return Shelf.open(Path(folder), grows=grows)


def shelf() -> Shelf:
    """The shelf of this process, read once.

    A list of sites in the environment means that steerers are added while the engine runs.
    """
    return _opened(os.environ[STEERERS], SITES in os.environ)


def sites() -> tuple[Site, ...]:
    """Every site that gets an op, in network order."""
    named = os.environ.get(SITES)
    return shelf().sites() if named is None else tuple(sorted({Site.parse(one) for one in named.split(",") if one}))
