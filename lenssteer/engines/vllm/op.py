"""The op at a site of a vLLM model: one opaque node of the compiled graph that works on the step's tokens in place.

    lenssteer::steer(hidden, residual, site)        site: its number, see `number`

What there is to do at a site is looked up when the op runs, never when it is traced: one graph serves every step.
Where nothing is to be done nothing is read, copied or written.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lenssteer.site import STREAMS, Site

Work = Callable[[Tensor, Tensor | None], None]
_LIBRARY = torch.library.Library("lenssteer", "FRAGMENT")
_to_do: Mapping[int, list[Work]] = {}


def number(site: Site) -> int:
    """The number of a site."""
    return site.layer * len(STREAMS) + STREAMS.index(site.stream)


def put_to_work(works: Mapping[int, list[Work]]) -> None:
    """What the op does from now on, by the number of the site."""
    global _to_do
    _to_do = works


def steer(hidden: torch.Tensor, residual: torch.Tensor | None, site: int) -> None:
    """Edit the tokens of a step in place.

    Args:
        hidden: [tokens, d_model]; with a residual, their sum is the activation and `hidden` takes the change.
        residual: [tokens, d_model], or None.
        site: Its number.
    """
    for work in _to_do.get(site, ()):
        work(hidden, residual)


def _traced(hidden: torch.Tensor, residual: torch.Tensor | None, site: int) -> None:
    """Shapes only."""


def register_op() -> None:
    """Make `torch.ops.lenssteer.steer` known; once a process."""
    if hasattr(torch.ops.lenssteer, "steer"):
        return
    from vllm.utils.torch_utils import direct_register_custom_op

    direct_register_custom_op("steer", steer, ["hidden"], _traced, _LIBRARY)
