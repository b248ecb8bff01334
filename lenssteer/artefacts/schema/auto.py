"""auto.json, tested.json and card.json: an automatic run's question, what was tested, and its outcome."""

from typing import Annotated, Literal

from pydantic import Field

from lenssteer.artefacts.schema.record import Card, Count, Free, Record, Text
from lenssteer.artefacts.schema.search import Finalist, Spent

Scores = dict[Text, list[float | None]]


class Asked(Record):
    """auto.json; see `known`."""

    kind: Literal["auto"]
    format: Literal[1]
    concept: Text
    method: Text | None
    seed: int
    model: Text
    template: str
    prompts: dict[Text, Text]
    max_new_tokens: Count
    judge: str


class Before(Record):
    """How often the unsteered model does what it is to be steered away from."""

    positive: Annotated[float, Field(ge=0, le=1)]
    negative: Annotated[float, Field(ge=0, le=1)]


class ByClass(Record):
    """Scores of both classes."""

    positive: Scores
    negative: Scores


class Arm(Record):
    """What an arm did on the test split."""

    scores: ByClass
    kl: float | None = None
    receipt: Free | None = None


class Tested(Record):
    """tested.json: the arms that are done."""

    before: Before | None = None
    unsteered: Arm | None = None
    steered: Arm | None = None
    random: Arm | None = None


class Interval(Record):
    """A mean with its 95 % interval."""

    mean: float | None
    low: float | None
    high: float | None


class Share(Interval):
    """A share, and its paired difference to the unsteered model."""

    n: Count
    unscored: Count
    less_unsteered: Interval | None


class Row(Record):
    """An arm in numbers; see `row_of`."""

    arm: Text
    kl: float | None
    receipt: Free | None
    positive: dict[Text, Share]
    negative: dict[Text, Share]


class Decision(Record):
    """What was decided, and why."""

    step: str
    decided: str
    why: str


class Spending(Record):
    """Tokens, passes and seconds of the process that finished the run."""

    tokens: Spent
    prompt_tokens: Spent
    generated_tokens: Spent
    passes: Count
    seconds: Spent


class AutoCard(Record):
    """card.json; see `auto`."""

    kind: Literal["auto"]
    format: Literal[1]
    lenssteer: Text
    concept: Text
    model: Card
    template: str
    prompts: dict[Text, Count]
    seed: int
    origin: str
    judge: str
    before: Before
    method: Text
    amount: Annotated[dict[Text, float], Field(min_length=1, max_length=1)]
    feasible: bool
    objective: Text
    constraints: list[Text]
    sites: list[Text]
    where: Text
    rows: Annotated[list[Row], Field(min_length=3, max_length=3)]
    finalists: list[Finalist]
    layers: list[Free]
    decisions: list[Decision]
    cost: Spending
