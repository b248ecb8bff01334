"""store.json: the shards of an activation store."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lenssteer.artefacts.schema.record import Count, Record, Sha256, SiteName, Text


class Store(Record):
    """An activation store; see `ActivationStore`. From format 2 on with the hash of every shard."""

    kind: Literal["store"]
    format: Literal[1, 2]
    sites: Annotated[list[SiteName], Field(min_length=1, max_length=10_000)]
    count: Count
    at: Text
    shards: Annotated[list[Annotated[str, Field(pattern=r"^shard-[0-9]{5,9}(-[0-9a-f]{16})?\.safetensors$")]],
                      Field(max_length=100_000)]
    sha256: Annotated[list[Sha256], Field(max_length=100_000, default_factory=list)]

    @model_validator(mode="after")
    def _one_each(self) -> "Store":
        if len(set(self.shards)) < len(self.shards) or len(self.sha256) != (len(self.shards) if self.format > 1 else 0):
            raise PydanticCustomError("shards", "shards have different names, and from format 2 on a hash each")
        return self
