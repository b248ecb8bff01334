"""Several steerers on one model."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import ParameterError, SteeringError
from lenssteer.models import LensModel, wrap
from lenssteer.nearest import unknown
from lenssteer.prompts import Columns
from lenssteer.site import Site
from lenssteer.steering.hooks import SiteEditor
from lenssteer.steering.receipts import Receipt
from lenssteer.steering.session import Session, accountable, attached
from lenssteer.steering.steerer import Steerer

CONFLICTS = ("refuse", "chain", "sum")


@dataclass(frozen=True, eq=False)
class Together:
    """What `together` returns."""

    steerers: tuple[Steerer, ...]
    conflict: str = "refuse"

    @contextmanager
    def on(self, model: Any) -> Iterator[tuple[Receipt, ...]]:
        """Steer a model for the length of a `with` block; one receipt a steerer, in their order.

        Raises:
            MismatchError: when a steerer was made for another model.
            SteeringError: at the end of the block, when an edit fired nowhere or broke the activations.
        """
        lens = model if isinstance(model, LensModel) else wrap(model)
        if self.conflict != "sum":
            with ExitStack() as stack:
                yield tuple(stack.enter_context(steerer.on(lens)) for steerer in self.steerers)
            return
        for steerer in self.steerers:
            steerer.check(lens)
        sessions = [Session(steerer) for steerer in self.steerers]
        at: dict[Site, list[SiteEditor]] = defaultdict(list)
        for session in sessions:
            for site, editor in session.editors.items():
                at[site].append(editor)
        readers = [reader for session in sessions for reader in session.readers]
        hooks = [*readers, *((site, _Sum(editors)) for site, editors in at.items())]
        with accountable(sessions), attached(lens, hooks):
            yield tuple(session.receipt for session in sessions)


class _Sum:
    """Every editor sees the same activation; their changes are added."""

    def __init__(self, editors: list[SiteEditor]) -> None:
        self.editors = editors

    def __call__(self, h: Float[Tensor, "batch chunk d_model"],
                 columns: Columns | None) -> Float[Tensor, "batch chunk d_model"] | None:
        changed = [new for editor in self.editors if (new := editor(h, columns)) is not None]
        if len(changed) < 2:
            return changed[0] if changed else None
        total = h
        for new in changed:
            total = total + (new - h)
        return total


def together(*steerers: Steerer, conflict: str = "refuse") -> Together:
    """Several steerers as one, which is put on a model with `.on(model)`.

    Args:
        *steerers: In the order in which they act.
        conflict: What happens at a site that several of them edit. "refuse" allows none. "chain" lets each edit what
            the one before left, as nested `with` blocks do. "sum" computes every change from the same activation,
            h' = h + sum_i (edit_i(h) - h), and reads all gates before any edit at their site.

    Raises:
        ParameterError: when there is no steerer, or `conflict` is unknown.
        SteeringError: when sites are shared and that is refused.
    """
    if conflict not in CONFLICTS:
        raise ParameterError(unknown("conflict", conflict, CONFLICTS))
    if not steerers:
        raise ParameterError("expected one steerer or more, got none.")
    users: dict[Site, int] = defaultdict(int)
    for steerer in steerers:
        for site in steerer.sites:
            users[site] += 1
    shared = sorted(site for site, count in users.items() if count > 1)
    if shared and conflict == "refuse":
        raise SteeringError(f"{', '.join(map(str, shared))} would be edited by several steerers; choose "
                            "conflict='chain' (in the order given) or 'sum' (all from the same activation).")
    return Together(steerers, conflict)
