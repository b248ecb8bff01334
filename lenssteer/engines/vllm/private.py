"""The shelf of a process that uses vLLM itself: steerers are saved into a folder that ends with it."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lenssteer.edits import LowRankEdit
from lenssteer.edits.edit import CORE_DIMS
from lenssteer.engines.vllm.asked import STEERER
from lenssteer.engines.vllm.settings import SITES, STEERERS
from lenssteer.errors import ParameterError
from lenssteer.site import Site
from lenssteer.steering import Steerer

_shelved: WeakKeyDictionary[Steerer, str] = WeakKeyDictionary()
AMOUNT_DIMS = {"gain": 1, "offset": 1}
"""Of an SaeEdit, as CORE_DIMS of a low-rank one."""


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """The folder of this process."""
    return tempfile.TemporaryDirectory(prefix="lenssteer-")


def announce(sites: Sequence[Site]) -> None:
    """Tell vLLM's processes, those yet to come too, where the shelf is and which sites get an op."""
    os.environ[STEERERS] = folder().name
    os.environ[SITES] = ",".join(map(str, sites))


def shelved(steerer: Steerer) -> dict[str, Any]:
    """Save a steerer under the hash of what it does, and give the `extra_args` of requests that ask for it."""
    if steerer in _shelved:
        return {STEERER: _shelved[steerer]}
    place = Path(folder().name)
    with tempfile.TemporaryDirectory(prefix=".", dir=place) as part:
        replace(steerer, card=None, provenance={}).save(part)
        digest = sha256(b"".join((Path(part) / name).read_bytes() for name in sorted(os.listdir(part)))).hexdigest()
        if not (place / digest).is_dir():
            os.rename(part, place / digest)
            os.mkdir(part)
    _shelved[steerer] = digest
    return {STEERER: digest}


def by_row(steerer: Steerer, rows: int) -> tuple[list[Steerer], list[int]]:
    """A stacked steerer as plain ones, and which of them each row has; rows that agree share one.

    Raises:
        ParameterError: when it is stacked for another number of rows.
    """
    stacked = {name: tensor for site, edit in steerer.edits.items()
               for name, tensor in _with_rows(str(site), edit).items()}
    if not stacked:
        return [steerer], [0] * rows
    if any(len(tensor) != rows for tensor in stacked.values()):
        raise ParameterError(f"the steerer is stacked for {len(next(iter(stacked.values())))} rows, {rows} are run; "
                             "give one amount a row.")
    table = torch.cat([tensor.reshape(rows, -1).double() for tensor in stacked.values()], -1)
    _, which = torch.unique(table, dim=0, return_inverse=True)
    first = {int(kind): row for row, kind in reversed(list(enumerate(which)))}
    kinds = sorted(first)
    plain = [replace(steerer, edits={site: _row(edit, first[kind]) for site, edit in steerer.edits.items()})
             for kind in kinds]
    return plain, [kinds.index(int(kind)) for kind in which]


def _dims(edit: Any) -> dict[str, int]:
    return CORE_DIMS if isinstance(edit, LowRankEdit) else AMOUNT_DIMS


def _with_rows(label: str, edit: Any) -> dict[str, Tensor]:
    named = {name: getattr(edit, name) for name in _dims(edit)}
    return {f"{label}/{name}": t for name, t in named.items() if t is not None and t.ndim > _dims(edit)[name]}


def _row(edit: Any, row: int) -> Any:
    """One row of a stacked edit, as an edit without rows."""
    named = {name: getattr(edit, name) for name in _dims(edit)}
    return replace(edit, **{name: t[row] for name, t in named.items() if t is not None and t.ndim > _dims(edit)[name]})
