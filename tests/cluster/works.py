"""What tests have workers do; workers import this file."""

import os
import warnings
from dataclasses import dataclass, field

import torch

from lenssteer.errors import SiteError
from lenssteer.prompts import PromptWarning
from lenssteer.sweeps import Grid


def where_and_what(model):
    """Process, threads, and which model object."""
    return os.getpid(), torch.get_num_threads(), id(model)


def misspelt(model):
    """An error of lenssteer's."""
    raise SiteError("no such site: resid_poost.3.")


def broken(model):
    """An error of somebody else's."""
    return {}["absent"]


def doubtful(model):
    """A warning for users."""
    warnings.warn("these prompts flatter", PromptWarning, stacklevel=1)
    return 1


@dataclass(frozen=True)
class Deadly(Grid):
    """A grid of which one amount kills the process that steers with it, unless that is the driver."""

    deadly: float = 72.0
    driver: int = field(default_factory=os.getpid)

    def steerer(self, calibration, source, amount):
        if os.getpid() != self.driver and self.deadly in amount.tolist():
            os._exit(1)
        return super().steerer(calibration, source, amount)
