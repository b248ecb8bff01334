"""rows.jsonl: measured facts, one a line, of a study; of a sweep see `cells`."""

from typing import Annotated

from pydantic import Field

from lenssteer.artefacts.schema.record import Count, Record, Text

Share = Annotated[float, Field(ge=0, le=1)]


class Rates(Record):
    """See `Rates`."""

    refusal: Share
    on_form: Share
    exact: Share
    n: Count


class Row(Record):
    """See `Row`."""

    method: Text
    sites: Text
    split: Text
    harmful: Rates
    harmless: Rates
    degrees: float | None = None
    coefficient: float | None = None
