"""One steerer on one model: its readers and editors, and what they have to answer for at the end."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lenssteer.errors import SteeringError
from lenssteer.models import LensModel
from lenssteer.models.lens import SiteHook
from lenssteer.site import Site
from lenssteer.steering.chooser import Chooser
from lenssteer.steering.gatekeeper import Gatekeeper
from lenssteer.steering.hooks import SiteEditor
from lenssteer.steering.receipts import Meter, Receipt
from lenssteer.steering.trace import Trace

if TYPE_CHECKING:
    from lenssteer.steering.steerer import Steerer


class Session:
    """The state of a `with` block; a new block starts anew, with every gate undecided."""

    def __init__(self, steerer: "Steerer", trace: bool = False) -> None:
        self.keeper = Gatekeeper(steerer.gate) if steerer.gate is not None else None
        readers = self.keeper.readers if self.keeper is not None else []
        self.receipt = Receipt(str(steerer.where), {site: Meter() for site in steerer.edits},
                               [reader.read for reader in readers], Trace() if trace else None)
        self.readers: list[tuple[Site, SiteHook]] = [(reader.condition.site, reader) for reader in readers]
        late = max((site for site, _ in self.readers), default=None)
        early, answer_only = (Chooser(steerer.where, self.keeper, steerer.schedule, flag) for flag in (False, True))
        self.editors = {
            site: SiteEditor(edit, answer_only if late is not None and site < late else early,
                             self.receipt.meters[site], steerer.shared_from == "last_prompt",
                             partial(self.receipt.trace.add, site) if self.receipt.trace is not None else None)
            for site, edit in sorted(steerer.edits.items())}

    def finish(self) -> None:
        """Refuse a run that did not do what it was asked to.

        Raises:
            SteeringError: when an edit fired nowhere, met too few rows, or broke the activations.
        """
        self.receipt.require_fired()
        for editor in self.editors.values():
            editor.require_all_rows()


@contextmanager
def accountable(sessions: Sequence[Session]) -> Iterator[None]:
    """A block at whose end runs that did not do what they were asked to are refused.

    Where it ends by a SteeringError already, sites with activations that are not finite are named in its place.
    """
    try:
        yield
    except SteeringError:
        for session in sessions:
            session.receipt.require_finite()
        raise
    for session in sessions:
        session.finish()


@contextmanager
def attached(lens: LensModel, hooks: Iterable[tuple[Site, SiteHook]]) -> Iterator[None]:
    """Hooks at sites, in the order given; taken off again whatever happens."""
    with ExitStack() as stack:
        for site, hook in hooks:
            stack.callback(lens.attach(site, hook))
        yield
