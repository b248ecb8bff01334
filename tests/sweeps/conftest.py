import pytest

from lenssteer.models.demo.world import requests


@pytest.fixture(scope="session")
def asked():
    """Prompts nothing was calibrated on."""
    return [prompt.text for kind in ("harmful", "harmless") for prompt in requests("selection", kind)[:3]]
