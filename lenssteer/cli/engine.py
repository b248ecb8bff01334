"""`--engine`: who answers, this process or vLLM."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated, Any

import typer

from lenssteer.cli.options import Backend, load, named_values
from lenssteer.cli.record import loaded

WORDS = {"true": True, "false": False}
"""What an option of vLLM that is on or off may be given."""


class EngineName(StrEnum):
    """Who runs the model."""

    torch = "torch"
    vllm = "vllm"


EngineOption = Annotated[EngineName, typer.Option(help="torch: this process, by --backend and --device; vllm: vLLM, on "
                                                  "the device it was built for.")]
EngineSettings = Annotated[list[str] | None, typer.Option("--engine-set", metavar="NAME=VALUE",
                                                          help="An argument of vLLM, such as max_model_len=4096; may "
                                                          "be repeated.")]


def require_torch(engine: EngineName, wanted: Mapping[str, object]) -> None:
    """Refuse, before anything is loaded, what another engine than torch cannot do.

    Args:
        engine: Asked for.
        wanted: By name what of it was asked for; None where it was not.

    Raises:
        ParameterError: with the names.
    """
    from lenssteer.errors import ParameterError

    named = [name for name, asked in wanted.items() if asked is not None]
    if named and engine is not EngineName.torch:
        raise ParameterError(f"{', '.join(named)}: not with --engine {engine}; use --engine torch.")


def load_speaker(name: str, engine: EngineName, settings: Sequence[str] | None, backend: Backend, device: str,
                 dtype: str, template: str | None) -> Any:
    """The model a command names, as a LensModel or an Engine.

    Raises:
        ParameterError: when a setting is of no use.
        ModelError: when it cannot be loaded, or vLLM is absent or of another version.
    """
    from lenssteer.errors import ParameterError

    if engine is EngineName.torch:
        if settings:
            raise ParameterError("--engine-set is about vLLM; give it with --engine vllm.")
        return load(name, backend, device, dtype, template)
    given = {key: WORDS.get(str(value).lower(), value) for key, value in named_values(settings or []).items()}
    speaker = _load_vllm(name, given, dtype, template)
    loaded(speaker.card, dtype)
    return speaker


def _load_vllm(name: str, given: dict[str, Any], dtype: str, template: str | None) -> Any:
    from rich.console import Console

    from lenssteer.engines.vllm.loading import load_vllm
    from lenssteer.engines.vllm.versions import require_vllm
    from lenssteer.errors import ParameterError

    require_vllm()
    # Its log goes to standard output, where --json stands; it reports use to its makers unless it is told not to.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    spinner = Console(stderr=True).status(f"starting vLLM with {name}") if sys.stderr.isatty() else nullcontext()
    try:
        with spinner, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return load_vllm(name, dtype=dtype, template=template or "auto", **{"use_tqdm_on_load": False, **given})
    except TypeError as error:
        raise ParameterError(f"vLLM does not take --engine-set {' '.join(given)}: {error}.") from error
