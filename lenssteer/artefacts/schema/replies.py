"""replies.jsonl: what a judging model returned, one reply a line."""

from typing import Annotated

from pydantic import ConfigDict, Field

from lenssteer.artefacts.schema.record import Count, Record


class Reply(Record):
    """See `Reply`; what else is worth a field, such as the model's name, stands beside it."""

    model_config = ConfigDict(extra="allow")

    key: Annotated[str, Field(min_length=1, max_length=128)]
    text: str
    finish: str
    prompt_tokens: Count | None
    completion_tokens: Count | None
