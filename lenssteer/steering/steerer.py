"""The steerer: edits at sites, a rule for tokens, and what model they were made for."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import MismatchError, SteeringError
from lenssteer.models import LensModel, ModelCard, wrap
from lenssteer.models.protocol import Sited
from lenssteer.prompts.identity import MismatchWarning, refuse_other_reading
from lenssteer.site import Site
from lenssteer.steering.files import read_artefact, reading, write_artefact
from lenssteer.steering.gates import Gate
from lenssteer.steering.packing import pack_edits, pack_gate, unpack_edits, unpack_gate
from lenssteer.steering.protocol import Edit
from lenssteer.steering.receipts import Receipt
from lenssteer.steering.schedule import Schedule
from lenssteer.steering.session import Session, accountable, attached
from lenssteer.steering.where import Where


@dataclass(frozen=True, eq=False)
class Steerer:
    """Edits at sites of a model.

    Args:
        edits: At most one edit a site; nest steerers for more.
        where: Which tokens are edited.
        card: The model it was made for; None for one that fits any model with the right sites and width.
        provenance: Anything worth keeping: method, parameters, contrast set, version.
        gate: Rows and tokens that are steered at all; None for all.
        late_gate: "refuse" wants every condition to be read before the first edit. "closed" lets conditions about
            prompts come later: until all are read, edits at earlier sites leave the prompt alone, and only the answer
            is steered there, as in the code of CAST.
        schedule: How strong the change is at each token of the answer; None for full strength.
        shared_from: "own" computes every token's change from itself; "last_prompt" gives every chosen prompt token the
            change of the row's last prompt token, as in the code of AlphaSteer.

    Raises:
        SteeringError: when there is no edit, the gate would be read too late, or `shared_from` does not suit `where`.
    """

    edits: Mapping[Site, Edit]
    where: Where = field(default_factory=Where)
    card: ModelCard | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    gate: Gate | None = None
    late_gate: str = "refuse"
    schedule: Schedule | None = None
    shared_from: str = "own"

    def __post_init__(self) -> None:
        if not self.edits:
            raise SteeringError("a steerer without edits would do nothing; give it at least one site.")
        if self.late_gate not in ("refuse", "closed") or self.shared_from not in ("own", "last_prompt"):
            raise SteeringError(f"expected late_gate 'refuse' or 'closed' and shared_from 'own' or 'last_prompt', got "
                                f"{self.late_gate!r} and {self.shared_from!r}.")
        if self.shared_from == "last_prompt" and self.where.kind not in ("prompt", "last_prompt"):
            raise SteeringError(f"shared_from='last_prompt' moves prompt tokens, but where={str(self.where)!r} chooses "
                                "others too; use where='prompt'.")
        first = self.sites[0]
        for condition in self.gate.conditions if self.gate is not None else ():
            if condition.site > first and (self.late_gate == "refuse" or condition.scope == "token"):
                raise SteeringError(f"the condition ({condition}) is read after the edit at {first}; read it at an "
                                    "earlier site, or steer later ones. late_gate='closed' leaves the prompt as it is.")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where it acts, in network order."""
        return tuple(sorted(self.edits))

    def at(self, where: str | Where) -> "Steerer":
        """The same steerer for other tokens."""
        return replace(self, where=Where.parse(where))

    def when(self, gate: Gate) -> "Steerer":
        """The same steerer under a condition, and under the one it may have already."""
        return replace(self, gate=gate if self.gate is None else self.gate & gate)

    def over(self, schedule: str | Schedule) -> "Steerer":
        """The same steerer with a strength that changes along the answer; see `Schedule`."""
        return replace(self, schedule=Schedule.parse(schedule))

    def scaled(self, strength: float | int | Float[Tensor, " rows"]) -> "Steerer":
        """The same steerer with every change multiplied; a tensor scales each row by its own.

        Strengths of repeated scalings multiply, in `provenance` too.
        """
        before = self.provenance.get("strength", 1.0)
        wide = [torch.as_tensor(value, dtype=torch.float64) for value in (before, strength)]
        return replace(self, edits={site: edit.scaled(strength) for site, edit in self.edits.items()},
                       provenance={**self.provenance, "strength": (wide[0] * wide[1]).tolist()})

    def check(self, model: Sited) -> None:
        """Refuse a model it does not fit.

        Raises:
            MismatchError: when the model, its width, its weight frame or its tokenizer is another.
            SiteError: when the model lacks a site.

        Warns:
            MismatchWarning: when the prompt format of the same name is another.
        """
        for site, edit in self.edits.items():
            model.check_site(site)
            if edit.d_model != model.card.d_model:
                raise MismatchError(f"the edit at {site} is for d_model {edit.d_model}, {model.card.name} has "
                                    f"{model.card.d_model}.")
        for condition in self.gate.conditions if self.gate is not None else ():
            model.check_site(condition.site)
            if len(condition.vector) != model.card.d_model:
                raise MismatchError(f"the condition at {condition.site} is for d_model {len(condition.vector)}, "
                                    f"{model.card.name} has {model.card.d_model}.")
        if self.card is not None:
            refuse_other_model(self.card, model.card)
        record, tokenizer = self.provenance.get("calibration"), getattr(model, "tokenizer", None)
        if isinstance(record, Mapping) and tokenizer is not None:
            doubt = refuse_other_reading(record, tokenizer, str(getattr(model, "template", "")))
            if doubt:
                warnings.warn(doubt, MismatchWarning, stacklevel=2)

    @contextmanager
    def on(self, model: Any, trace: bool = False) -> Iterator[Receipt]:
        """Steer a model for the length of a `with` block.

        The model is left as it was, also after an exception. Blocks may be nested; at a shared site the outer edit
        comes first. The receipt fills as passes happen.

        Args:
            model: A LensModel, or a HookedTransformer, TransformerBridge or Hugging Face model, which is wrapped.
            trace: Whether to keep what happens to every token, as `receipt.trace`; see `Trace`.

        Raises:
            MismatchError: when the steerer was made for another model.
            SteeringError: at the end of the block, when an edit fired nowhere or broke the activations.
        """
        lens = model if isinstance(model, LensModel) else wrap(model)
        self.check(lens)
        session = Session(self, trace)
        with accountable([session]), attached(lens, [*session.readers, *session.editors.items()]):
            yield session.receipt

    def save(self, folder: Path | str) -> Path:
        """Write `steerer.json` and its tensors into a folder.

        Raises:
            FileError: when the folder cannot be written.
        """
        sites, tensors = pack_edits(self.edits)
        meta = {"where": str(self.where), "model": asdict(self.card) if self.card else None, "sites": sites,
                "provenance": dict(self.provenance)}
        if self.gate is not None:
            packed, vectors = pack_gate(self.gate)
            meta |= {"gate": packed, "late_gate": self.late_gate}
            tensors |= vectors
        if self.schedule is not None:
            meta["schedule"] = asdict(self.schedule)
        if self.shared_from != "own":
            meta["shared_from"] = self.shared_from
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
            gate = unpack_gate(meta["gate"], tensors) if "gate" in meta else None
            schedule = Schedule(**meta["schedule"]) if "schedule" in meta else None
            return cls(edits, Where.parse(meta["where"]), card, meta["provenance"], gate,
                       meta.get("late_gate", "refuse"), schedule, meta.get("shared_from", "own"))


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
