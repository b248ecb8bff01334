"""run.json: the commands that made what lies beside it, and where they ran."""

from typing import Annotated, Literal

from pydantic import Field

from lenssteer.artefacts.schema.record import Free, Record, Sha256, Text

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]


class Made(Record):
    """A command that ended well; see `lenssteer.cli.record`."""

    command: Name
    options: Free
    inputs: dict[Text, Sha256]
    models: list[Free]
    versions: dict[Text, Text]
    machine: dict[Text, Text | int | None]


class Run(Record):
    """The commands, in order; several where each added to what the earlier ones left."""

    kind: Literal["run"]
    format: Literal[1]
    commands: Annotated[list[Made], Field(min_length=1, max_length=1000)]
