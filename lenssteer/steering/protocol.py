"""What the steering layer asks of an edit; LowRankEdit and SaeEdit offer it."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Edit(Protocol):
    """A frozen map on activations.

    An edit that is not a LowRankEdit also has `kind`, `tensors()`, `options()` and `from_tensors(tensors, options)`, by
    which it is saved and loaded.
    """

    @property
    def d_model(self) -> int:
        """Width of the activations it is for."""
        ...

    @property
    def rows(self) -> int | None:
        """How many rows it steers differently; None when all rows get the same."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays by name."""
        ...

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Any:
        """The same edit with its arrays elsewhere."""
        ...

    def take(self, index: Any) -> Any:
        """The edit whose row i is row `index[i]` of this one."""
        ...

    def scaled(self, strength: Any) -> Any:
        """The same edit with its change multiplied."""
        ...

    def __call__(self, h: Any) -> Any:
        """Edited activations in the shape, dtype and device of `h`."""
        ...
