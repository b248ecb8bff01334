"""finished.jsonl: pieces of a result that a process was killed before."""

from pydantic import Field

from lenssteer.artefacts.schema.record import Free, Record, Sha256, Tensors


class Piece(Record):
    """A piece; see `lenssteer.artefacts.unfinished`. It holds what was found, or names its tensors."""

    key: Sha256
    found: Free = Field(default_factory=dict)
    tensors: Tensors | None = None
    alone: bool = False
