"""refusal.json: the chosen refusal direction, and what every candidate scored."""

from typing import Annotated, Literal

from pydantic import Field

from lenssteer.artefacts.schema.record import Artefact, Card, Origin, Record, SiteName, Text

Position = Annotated[int, Field(ge=-(10**6), le=10**6)]
Score = Annotated[float, Field(allow_inf_nan=True)] | None
"""null where it is no number; up to format 2, NaN and Infinity as Python writes them."""


class Candidate(Record):
    """A candidate; see `RefusalDirection.scores`."""

    site: SiteName
    layer: Annotated[int, Field(ge=0, le=100_000)]
    position: Position
    length: Score
    bypass: Score
    induce: Score
    kl: Score
    chosen: bool


class Refusal(Artefact):
    """A saved refusal direction; see `RefusalDirection.save`."""

    kind: Literal["refusal"]
    site: SiteName
    position: Position
    length: Annotated[float, Field(ge=0)]
    positive: float
    negative: float
    tokens: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=100_000)]
    rule: Text
    model: Card
    record: Origin
    scores: Annotated[list[Candidate], Field(max_length=10**6)]

    def shapes(self) -> dict[str, tuple[int | None, ...] | None]:
        return {"vector": (self.model.d_model,)}
