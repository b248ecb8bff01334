"""search.json, measured.jsonl and result.json: what a search is about, what it measured, what it found."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lenssteer.artefacts.schema.record import Count, Free, Record, Text

Number = Annotated[int, Field(ge=0, le=10**9)]
Amount = float | None
Answers = tuple[Amount, Number, dict[Text, float | None]]
Measured = tuple[Amount, Number, float]
Broken = tuple[Amount, Number, str]
Spent = Annotated[float, Field(ge=0)]


class Search(Record):
    """The header of a search; see `run_search`."""

    kind: Literal["search"]
    format: Literal[1]
    about: Free
    space: Free
    objective: Text
    constraints: list[Text]
    plan: Free
    decoding: Free
    prompts: list[Text]
    n: Count
    wanted: list[Text]
    template: str | None
    system: str | None
    measure: str
    model: Text


class Cost(Record):
    """Of a batch; see `Cost`."""

    prompt: Spent
    generated: Spent
    passes: Count
    seconds: Spent


class Batch(Record):
    """A batch that was measured; see `Record.add`. Its rows are amount, number of the prompt, and what was found."""

    kind: Literal["answers", "first", "kl", "broken"]
    stage: Text
    rows: list[Answers] | list[Measured] | list[Broken]
    cost: Cost

    @model_validator(mode="after")
    def _alike(self) -> "Batch":
        wanted = {"answers": dict, "broken": str}.get(self.kind, float)
        amounts = {row[0] for row in self.rows}
        if any(type(row[2]) is not wanted for row in self.rows) or (None in amounts and self.kind in ("kl", "broken")):
            raise PydanticCustomError("rows", "the rows are not those of its kind")
        return self


class Finalist(Record):
    """See `Finalist`."""

    amount: float
    means: dict[Text, float | None]
    scored: dict[Text, Count]
    low: float | None
    high: float | None
    excess: Annotated[float, Field(ge=0)] | None


class Trial(Record):
    """A setting as the sampler has it; see `Trials.rows`."""

    number: Number
    amount: float | None
    state: Text
    value: float | None
    stages: dict[Text, float]
    why: str


class Spending(Record):
    """Of a whole search: tokens, passes and seconds, and tokens by stage."""

    tokens: Spent
    prompt_tokens: Spent
    generated_tokens: Spent
    passes: Count
    seconds: Spent
    by_stage: dict[Text, Spent]


class Result(Record):
    """What a search found; see `SearchResult`."""

    name: Text
    amount: float | None
    feasible: bool
    objective: Text
    constraints: list[Text]
    finalists: list[Finalist]
    unsteered: dict[Text, float | None]
    trials: list[Trial]
    n: Count
    seen: list[Text]
    cost: Spending
    grid_tokens: Annotated[float, Field(gt=0)]
    seed: int
    share: float | None = None
