"""One steerer of the shelf on a worker's device, shared by all requests that ask for it."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lenssteer.errors import SteeringError
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer


@dataclass(frozen=True, eq=False)
class Slot:
    """What the ops of a worker need of a steerer.

    Args:
        steerer: As the shelf gave it.
        edits: By site, in network order, on the device.
        directions: Unit vector of the first line each edit writes; zero where it writes nothing.
        directed: 1 where that is not zero, else 0.
        conditions: Of its gate, on the device, by the original.
        late: The last site at which a condition is read.
    """

    steerer: Steerer
    edits: dict[Site, Any]
    directions: dict[Site, Tensor]
    directed: dict[Site, float]
    conditions: dict[Condition, Condition]
    late: Site | None

    @classmethod
    def of(cls, steerer: Steerer, device: torch.device, installed: Collection[Site]) -> "Slot":
        """Place a steerer.

        Raises:
            SteeringError: when it acts where no op was installed.
        """
        read = steerer.gate.conditions if steerer.gate is not None else ()
        absent = sorted({*steerer.sites, *(condition.site for condition in read)} - set(installed))
        if absent:
            raise SteeringError(f"the steerer acts at {absent[0]}, which the engine was not started for; start it with "
                                "that site among its sites.")
        edits = {site: steerer.edits[site].to(device, torch.float32) for site in steerer.sites}
        directions = {site: _direction(edit) for site, edit in edits.items()}
        return cls(steerer, edits, directions, {site: float(line.any()) for site, line in directions.items()},
                   {condition: condition.to(device, torch.float32) for condition in read},
                   max((condition.site for condition in read), default=None))

    @cached_property
    def is_steady(self) -> bool:
        """Whether every token of an answer is treated alike, whatever its place."""
        schedule = self.steerer.schedule
        return (self.steerer.where.kind != "first_n" and (schedule is None or schedule.is_plain)
                and all(condition.scope == "prompt" for condition in self.conditions))

    def answer_only(self, site: Site) -> bool:
        """Whether prompts are left alone at a site, since the gate is read after it."""
        return self.late is not None and site < self.late


def _direction(edit: Any) -> Tensor:
    line = edit.write[0] if len(edit.write) else torch.zeros(edit.d_model)
    length = line.norm()
    return line / length if length > 0 else torch.zeros_like(line)


def needs_whole_prompt(steerer: Steerer) -> bool:
    """Whether prompt tokens are edited by what only the whole prompt tells."""
    return steerer.shared_from == "last_prompt" or (bool(_about_prompts(steerer)) and steerer.where.edits_prompt)


def reads_prompt(steerer: Steerer) -> bool:
    """Whether something of the whole prompt is read, so that no part of it may come from a cache."""
    return steerer.shared_from == "last_prompt" or bool(_about_prompts(steerer))


def reads_late(steerer: Steerer) -> bool:
    """Whether the prompt is judged after an edit that its judgement decides."""
    return any(condition.site > steerer.sites[0] for condition in _about_prompts(steerer))


def _about_prompts(steerer: Steerer) -> list[Condition]:
    return [one for one in (steerer.gate.conditions if steerer.gate is not None else ()) if one.scope == "prompt"]
