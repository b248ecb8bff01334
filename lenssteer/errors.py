"""Every error lenssteer raises on purpose.

    LenssteerError
    ├── ShapeError          a tensor of the wrong shape, dtype or geometry
    ├── ParameterError      an argument outside its range or of the wrong unit
    ├── SiteError           a site the model or the artefact does not have
    ├── PromptError         prompts that cannot be read, or that would mislead
    ├── ModelError          a model that cannot be loaded, or fails its self-check
    ├── DirectionError      activations that do not determine a direction or a plane
    ├── SteeringError       an edit that cannot apply here, or that fired nowhere
    │   └── MismatchError   an artefact made on another model, frame or version
    └── FileError           an artefact that cannot be read or written

A message says what was expected, what came, and what to do.
"""


class LenssteerError(Exception):
    """Base of every error that a user can cause."""


class ShapeError(LenssteerError):
    """A tensor has the wrong shape, dtype or geometry."""


class ParameterError(LenssteerError):
    """An argument is outside its range or in the wrong unit."""


class SiteError(LenssteerError):
    """A site is misspelt, or absent from the model or the artefact."""


class PromptError(LenssteerError):
    """Prompts cannot be read, or would mislead what is computed from them."""


class ModelError(LenssteerError):
    """A model cannot be loaded, or does not behave as its hooks promise."""


class DirectionError(LenssteerError):
    """The activations do not determine a direction or a plane."""


class SteeringError(LenssteerError):
    """An edit cannot apply here, or fired nowhere."""


class MismatchError(SteeringError):
    """An artefact was made on another model, weight frame or format version."""


class FileError(LenssteerError):
    """An artefact cannot be read or written."""
