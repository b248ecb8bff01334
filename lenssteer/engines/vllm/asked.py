"""What one request asks for: a steerer by name and its parameters, read from `extra_args` (over HTTP `vllm_xargs`).

    {"steerer": "refusal", "degrees": 200}                               a name of the shelf, and what it lets be set
    {"steerer": "caa", "instruction_end": 17, "prompt_end": 21}          where the instruction and the prompt end
    {"steerer": "none"}                                                  unsteered, also where the server has a default
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from lenssteer.errors import ParameterError
from lenssteer.nearest import did_you_mean, unknown

STEERER, INSTRUCTION_END, PROMPT_END, TICKET = "steerer", "instruction_end", "prompt_end", "lenssteer_ticket"
PROMPT_LIMIT = "lenssteer_prompt_limit"
OURS = (STEERER, INSTRUCTION_END, PROMPT_END, TICKET, PROMPT_LIMIT)
UNSTEERED = "none"
"""The name that asks for no steerer; no steerer of a shelf may have it."""
VLLMS = ("kv_transfer_params", "ec_transfer_params", "kv_cache_report_mode", "session_id")
"""What vLLM itself reads from the same mapping."""
LONGEST = 1 << 30
MOST = 64


class Range(BaseModel):
    """The values a request may give a parameter; without a default it has to give one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: FiniteFloat
    high: FiniteFloat
    default: FiniteFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low <= (self.low if self.default is None else self.default) <= self.high:
            raise PydanticCustomError("order", "expected low <= default <= high, got {low}, {default} and {high}",
                                      self.__dict__.copy())
        return self

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, eq=False)
class Offer:
    """What a shelf offers under one name.

    Args:
        name: As requests write it.
        digest: Hash of all that is stored under it.
        ranges: What a request may set.
        where: Which tokens it edits.
    """

    name: str
    digest: str
    ranges: Mapping[str, Range]
    where: str = "all"

    def values(self, given: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
        """Every parameter with its value, by name.

        Raises:
            ParameterError: when one is unknown, missing, not a number, or outside its range.
        """
        foreign = next((name for name in given if name not in self.ranges), None)
        if foreign is not None:
            takes = f"takes {', '.join(sorted(self.ranges))}" if self.ranges else "takes no parameters"
            raise ParameterError(f"steerer {self.name!r} {takes}; got {_short(foreign)}."
                                 + did_you_mean(foreign, [*self.ranges, *OURS]))
        return tuple((name, self._value(name, given.get(name))) for name in sorted(self.ranges))

    def _value(self, name: str, value: Any) -> float:
        allowed = self.ranges[name]
        if value is None and allowed.default is not None:
            return allowed.default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterError(f"steerer {self.name!r} needs {name}, a number {allowed}; got {_short(value)}.")
        if not allowed.low <= value <= allowed.high:
            raise ParameterError(f"{name} of steerer {self.name!r} must be {allowed}; got {_short(value)}.")
        return float(value) + 0.0


@dataclass(frozen=True)
class Asked:
    """A steerer of the shelf with every parameter set.

    Args:
        name: In the shelf.
        digest: Hash of what the shelf stores under that name.
        parameters: Name and value of all that a request may set, sorted.
        instruction_end: Token index where the user's last instruction ends; None where nobody said.
        prompt_end: Token index where the answer begins; None for the length of the request's prompt.
        ticket: Under which the request's receipt is kept; "" for none.
    """

    name: str
    digest: str
    parameters: tuple[tuple[str, float], ...] = ()
    instruction_end: int | None = None
    prompt_end: int | None = None
    ticket: str = ""

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None, offers: Mapping[str, Offer]) -> "Asked | None":
        """What a request asks for; None for no steering.

        Args:
            extra_args: Of vLLM's SamplingParams.
            offers: By name; see `Shelf.offers`.

        Raises:
            ParameterError: when the name or a parameter is unknown, of the wrong type, not finite or out of range.
        """
        given = {key: value for key, value in (extra_args or {}).items() if key not in VLLMS}
        if len(given) > MOST:
            raise ParameterError(f"a request may set {MOST} values at most; got {len(given)}.")
        name = given.pop(STEERER, None)
        ticket = given.pop(TICKET, "")
        given.pop(PROMPT_LIMIT, None)
        if name is None or name == UNSTEERED:
            _refuse_unclaimed(given, offers)
            return None
        if not isinstance(name, str) or name not in offers:
            raise ParameterError(unknown("steerer", name if isinstance(name, str) else _short(name),
                                         [*sorted(offers), UNSTEERED]))
        instruction_end, prompt_end = (_index(key, given.pop(key, None)) for key in (INSTRUCTION_END, PROMPT_END))
        if instruction_end is not None and prompt_end is not None and instruction_end > prompt_end:
            raise ParameterError(f"instruction_end={instruction_end} lies after prompt_end={prompt_end}; the "
                                 "instruction is a part of the prompt.")
        if not isinstance(ticket, str):
            raise ParameterError(f"{TICKET} must be text; got {_short(ticket)}.")
        return cls(name, offers[name].digest, offers[name].values(given), instruction_end, prompt_end, ticket)

    @property
    def key(self) -> str:
        """Sixteen hex digits of the edit's content; requests with the same key share one copy of its tensors."""
        content = json.dumps([self.digest, self.parameters])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def extra_args(self) -> dict[str, Any]:
        """The mapping that `read` reads."""
        marks = {INSTRUCTION_END: self.instruction_end, PROMPT_END: self.prompt_end, TICKET: self.ticket or None}
        return {STEERER: self.name, **dict(self.parameters),
                **{name: value for name, value in marks.items() if value is not None}}


def _refuse_unclaimed(given: Mapping[str, Any], offers: Mapping[str, Offer]) -> None:
    """Refuse parameters of a steerer that come without its name."""
    parameters = {name for offer in offers.values() for name in offer.ranges}
    for key in given:
        meant = did_you_mean(key, [STEERER], least=0.8)
        if key in parameters or meant:
            raise ParameterError(f"{_short(key)} was given, but no steerer; name one with {STEERER}=, one of "
                                 f"{', '.join(sorted(offers))}, or leave it out.{meant}")


def _index(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LONGEST:
        raise ParameterError(f"{name} must be a token index, a whole number from 0; got {_short(value)}.")
    return value


def _short(value: Any) -> str:
    """A value of a stranger's request, short enough for a message."""
    text = repr(value) if not isinstance(value, int) or abs(value) < LONGEST else "a very large number"
    return text if len(text) <= 60 else text[:57] + "..."
