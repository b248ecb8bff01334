"""What every description shares: strict records, names, and how a fault is told."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lenssteer.errors import FileError

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
M = TypeVar("M", bound="Record")


class Record(BaseModel):
    """A frozen record; other keys, types and ranges are refused."""

    model_config = STRICT


Text = Annotated[str, Field(max_length=4096)]
SiteName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}\.[0-9]{1,4}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**12)]
Free = dict[str, JsonValue]
"""What is kept for whoever reads it: any JSON."""


class Tensors(Record):
    """The file of tensors beside a description, by the hash of its content."""

    file: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}-[0-9a-f]{16}\.safetensors$")]
    sha256: Sha256


class Card(Record):
    """What identifies a model; see `ModelCard`."""

    name: Text
    architecture: Text
    backend: Text
    n_layers: Annotated[int, Field(ge=1, le=100_000)]
    d_model: Annotated[int, Field(ge=1, le=2**24)]
    n_ctx: Annotated[int, Field(ge=1)]
    frame: Literal["raw", "folded"] = "raw"
    fingerprint: Text = ""


class Origin(BaseModel):
    """What is read again of the record of where something came from; more may stand there."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)  # type: ignore[assignment]  # pydantic reads it so

    contrast: str | None = None
    sha256: str | None = None
    at: str | None = None
    template: str | None = None
    system: str | None = None
    seen: list[str] = Field(default_factory=list)
    prompts: Any = None
    tokenizer: Text = ""
    chat_template: Text = ""


def described(model: type[M], text: bytes, where: object) -> M:
    """A description by its model.

    Args:
        model: What it must be.
        text: JSON that `parse` let pass.
        where: What messages begin with.

    Raises:
        FileError: with the first fault, where it is, and how many there are.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise FileError(fault(error, where)) from error


def fault(error: ValidationError, where: object) -> str:
    """The first fault of a description in words."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(step)[:80] for step in first["loc"]) or "the whole"
    extra = " It is of another version of lenssteer, or was edited." if first["type"] == "extra_forbidden" else ""
    return (f"{where} is damaged at {place}: {first['msg'][:300]} ({error.error_count()} faults in all). Copy it "
            f"again, or make it again.{extra}")



HASHED = 3
"""The format from which on a description names its tensors file by hash."""


class Artefact(Record):
    """A folder with a description and tensors; `shapes` says which there must be."""

    format: Literal[1, 2, 3]
    tensors: Tensors | None = None

    @model_validator(mode="after")
    def _hashed(self) -> "Artefact":
        if (self.tensors is not None) != (self.format >= HASHED):
            raise PydanticCustomError("hashed", "formats from 3 on name their tensors file and its hash, earlier ones "
                                      "do not")
        return self

    def shapes(self) -> dict[str, tuple[int | None, ...] | None]:
        """The tensors there must be: each with its shape, None where the description does not fix it."""
        return {}

    def optional(self) -> dict[str, tuple[int | None, ...] | None]:
        """The tensors there may be."""
        return {}
