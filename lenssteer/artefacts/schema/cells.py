"""sweep.json and rows.jsonl of a sweep: what the run is about, and its finished cells."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from lenssteer.artefacts.schema.record import Card, Count, Free, Record, SiteName, Text

Hash = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]


class Sweep(Record):
    """The header of a run; see `open_run`. What identifies its parts are hashes."""

    kind: Literal["sweep"]
    format: Literal[1, 2]
    cells: Annotated[list[Hash], Field(max_length=10**6)]
    model: Free = Field(default_factory=dict)
    calibration: Text = ""
    prompts: Text = ""
    template: str | None = None
    system: str | None = None
    measure: str = ""
    keep_answers: bool = False
    n: Count = 0
    scores: list[Text] = Field(default_factory=list)
    judge: str = ""
    lenssteer: Text = ""
    card: Card | None = None
    seen: list[Text] = Field(default_factory=list)


class Cell(Record):
    """A finished cell; see `CellRow`."""

    cell: Hash
    method: Text
    amount_name: Text
    amount: float | None
    source: Text
    sites: Annotated[list[SiteName], Field(max_length=10_000)]
    where: Text
    settings: Free
    decoding: dict[str, JsonValue]
    n: Count
    scores: dict[Text, list[float | None]]
    answers: list[str] | None = None
    error: str | None = None
    cost: dict[Text, float] | None = None
    batch: Hash | None = None

    @model_validator(mode="after")
    def _one_a_prompt(self) -> "Cell":
        counts = {len(values) for values in self.scores.values()} | ({len(self.answers)} if self.answers else set())
        if counts - {self.n}:
            raise PydanticCustomError("prompts", "scores and answers are one a prompt, n of each")
        return self
