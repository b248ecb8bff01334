"""steerer.json: edits at sites, the rule for tokens, the gate, the schedule, and the model it was made for."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from lenssteer.artefacts.schema.record import Artefact, Card, Count, Free, Origin, Record, SiteName, Text

ArrayName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./]{1,200}$")]
Arrays = Annotated[dict[Text, ArrayName], Field(min_length=1, max_length=16)]
Whole = Annotated[int, Field(ge=0, le=10**6)]


class SaeOptions(Record):
    """What is not an array of an autoencoder; see `Sae`."""

    kind: Text
    k: Count
    rescale_by_decoder_norm: bool
    apply_b_dec_to_input: bool
    normalisation: Text
    factor: Annotated[float, Field(gt=0)]


class EncodedOptions(Record):
    """What is not an array of an edit of latents; see `SaeEdit`."""

    only_active: bool
    site: SiteName
    sae: SaeOptions


class LowRank(Record):
    """A LowRankEdit: its arrays by the names of tensors, which sites may share."""

    arrays: Arrays
    norm: Literal["none", "preserve", "cap"]
    radius: Literal["plane", "complement"]


class Encoded(Record):
    """An SaeEdit."""

    arrays: Arrays
    kind: Literal["sae"]
    options: EncodedOptions


class Other(Record):
    """An edit of another kind, which is saved by its own options; only lenssteer's own are read."""

    arrays: Arrays
    kind: Text
    options: Free


def _kind(entry: Any) -> str:
    kind = entry.get("kind") if isinstance(entry, dict) else getattr(entry, "kind", None)
    return "low-rank" if kind is None else "sae" if kind == "sae" else "other"


Edit = Annotated[Annotated[LowRank, Tag("low-rank")] | Annotated[Encoded, Tag("sae")] | Annotated[Other, Tag("other")],
                 Discriminator(_kind)]


class Condition(Record):
    """A condition of a gate; see `Condition`. Its vector is the tensor gate/NUMBER."""

    site: SiteName
    threshold: float
    similarity: Text
    above: bool
    pool: Text
    scope: Text
    f1: float | None = None


class AllOf(Record):
    """Every part must hold."""

    parts: Annotated[list["Rule"], Field(alias="and", min_length=1, max_length=1000)]


class AnyOf(Record):
    """One part must hold."""

    parts: Annotated[list["Rule"], Field(alias="or", min_length=1, max_length=1000)]


class NoneOf(Record):
    """The part must not hold."""

    parts: Annotated[list["Rule"], Field(alias="not", min_length=1, max_length=1)]


Rule = TypeAliasType("Rule", Whole | AllOf | AnyOf | NoneOf)


class Gate(Record):
    """Conditions, and the rule of their numbers."""

    conditions: Annotated[list[Condition], Field(min_length=1, max_length=1000)]
    rule: Rule

    @model_validator(mode="after")
    def _known(self) -> "Gate":
        waiting = [self.rule]
        while waiting:
            rule = waiting.pop()
            if not isinstance(rule, int):
                waiting += rule.parts
            elif rule >= len(self.conditions):
                raise PydanticCustomError("rule", "the rule names a condition that is not there")
        return self


class Schedule(Record):
    """See `Schedule`."""

    kind: Text
    n: Whole
    start: float
    end: float
    prompt: float | None = None


class Provenance(Origin):
    """What is read again of where a steerer came from; more may stand there."""

    method: JsonValue = None
    strength: float | list[float] = 1.0
    calibration: Origin = Origin()


class Steerer(Artefact):
    """A saved steerer; see `Steerer.save`."""

    kind: Literal["steerer"]
    where: Text
    model: Card | None
    sites: Annotated[dict[SiteName, Edit], Field(min_length=1, max_length=10_000)]
    provenance: Provenance
    gate: Gate | None = None
    late_gate: Literal["refuse", "closed"] = "refuse"
    schedule: Schedule | None = None
    shared_from: Literal["own", "last_prompt"] = "own"

    def shapes(self) -> dict[str, tuple[int | None, ...] | None]:
        found: dict[str, tuple[int | None, ...] | None] = {
            name: None for edit in self.sites.values() for name in edit.arrays.values()}
        return {**found, **{f"gate/{i}": (None,) for i in range(len(self.gate.conditions) if self.gate else 0)}}
