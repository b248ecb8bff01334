"""The steerer: edits at sites, a rule for tokens, and what model they were made for."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lenssteer.edits import LowRankEdit
from lenssteer.errors import MismatchError, SteeringError
from lenssteer.models import LensModel, ModelCard, wrap
from lenssteer.site import Site
from lenssteer.steering.files import pack_edits, read_artefact, reading, unpack_edits, write_artefact
from lenssteer.steering.hooks import Chooser, SiteEditor
from lenssteer.steering.receipts import Meter, Receipt
from lenssteer.steering.where import Where


@dataclass(frozen=True, eq=False)
class Steerer:
    """Edits at sites of a model.

    Args:
        edits: At most one edit a site; nest steerers for more.
        where: Which tokens are edited.
        card: The model it was made for; None for one that fits any model with the right sites and width.
        provenance: Anything worth keeping: method, parameters, contrast set, version.

    Raises:
        SteeringError: when there is no edit.
    """

    edits: Mapping[Site, LowRankEdit]
    where: Where = field(default_factory=Where)
    card: ModelCard | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.edits:
            raise SteeringError("a steerer without edits would do nothing; give it at least one site.")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where it acts, in network order."""
        return tuple(sorted(self.edits))

    def at(self, where: str | Where) -> "Steerer":
        """The same steerer for other tokens."""
        return replace(self, where=Where.parse(where))

    def check(self, model: LensModel) -> None:
        """Refuse a model it does not fit.

        Raises:
            MismatchError: when the model, its width or its weight frame is another.
            SiteError: when the model lacks a site.
        """
        for site, edit in self.edits.items():
            model.check_site(site)
            if edit.d_model != model.card.d_model:
                raise MismatchError(f"the edit at {site} is for d_model {edit.d_model}, {model.card.name} has "
                                    f"{model.card.d_model}.")
        if self.card is not None:
            refuse_other_model(self.card, model.card)

    @contextmanager
    def on(self, model: Any) -> Iterator[Receipt]:
        """Steer a model for the length of a `with` block.

        The model is left as it was, also after an exception. Blocks may be nested; at a shared site the outer edit
        comes first. The receipt fills as passes happen.

        Args:
            model: A LensModel, or a HookedTransformer, TransformerBridge or Hugging Face model, which is wrapped.

        Raises:
            MismatchError: when the steerer was made for another model.
            SteeringError: at the end of the block, when an edit fired nowhere or broke the activations.
        """
        lens = model if isinstance(model, LensModel) else wrap(model)
        self.check(lens)
        receipt = Receipt(str(self.where), {site: Meter() for site in self.edits})
        chooser = Chooser(self.where)
        editors = {site: SiteEditor(edit, chooser, receipt.meters[site]) for site, edit in self.edits.items()}
        with ExitStack() as attached:
            for site in self.sites:
                attached.callback(lens.attach(site, editors[site]))
            yield receipt
        receipt.require_fired()
        for editor in editors.values():
            editor.require_all_rows()

    def save(self, folder: Path | str) -> Path:
        """Write `steerer.json` and `tensors.safetensors` into a folder.

        Raises:
            FileError: when the folder cannot be written.
        """
        sites, tensors = pack_edits(self.edits)
        meta = {"where": str(self.where), "model": asdict(self.card) if self.card else None, "sites": sites,
                "provenance": dict(self.provenance)}
        return write_artefact(folder, "steerer", meta, tensors)

    @classmethod
    def load(cls, folder: Path | str) -> "Steerer":
        """Read a saved steerer.

        Raises:
            FileError: when the folder is not a steerer, or is damaged.
            MismatchError: when it was written in another format version.
        """
        meta, tensors = read_artefact(folder, "steerer")
        with reading(folder):
            card = ModelCard(**meta["model"]) if meta["model"] else None
            edits = unpack_edits(meta["sites"], tensors)
            return cls(edits, Where.parse(meta["where"]), card, meta["provenance"])


def refuse_other_model(made_for: ModelCard, model: ModelCard) -> None:
    """Compare two cards.

    Raises:
        MismatchError: with the first thing that differs.
    """
    for name in ("d_model", "n_layers", "frame"):
        if getattr(made_for, name) != getattr(model, name):
            raise MismatchError(f"made on {made_for.name} with {name} {getattr(made_for, name)}; "
                                f"{model.name} has {name} {getattr(model, name)}. Calibrate on this model.")
    if made_for.fingerprint and model.fingerprint and made_for.fingerprint != model.fingerprint:
        raise MismatchError(f"made on {made_for.name} (weights {made_for.fingerprint}); {model.name} has other weights "
                            f"({model.fingerprint}). Calibrate on this model, or load that one.")
