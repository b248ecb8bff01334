"""Shared fixtures. Nothing here or in the tests touches a network.

Fixtures import the package inside their bodies, so that the shape-checking import hook is in place first.
"""

import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tests.house.network import nothing_leaves, watch  # noqa: F401  # a fixture of every test

watch()

SHARED = Path(os.environ.get("LENSSTEER_SHARED", Path(__file__).parents[2] / "shared"))
HAS_HOOKED = int(version("transformer-lens").split(".")[0]) < 4
BACKENDS = ("hooked", "bridge", "hf") if HAS_HOOKED else ("bridge", "hf")
hooked_only = pytest.mark.skipif(not HAS_HOOKED, reason="TransformerLens 4 has no HookedTransformer")

torch.set_num_threads(1)


def shared(path: str) -> Path:
    """A folder or file of the shared material; the test is skipped, with the reason, where it is absent."""
    full = SHARED / path
    if not full.exists():
        pytest.skip(f"{full} is absent: set LENSSTEER_SHARED to the folder with real weights and data")
    return full


@pytest.fixture(scope="session")
def demo_models():
    """The demo model on every backend."""
    from lenssteer.models import load_model

    return {backend: load_model("demo", backend=backend) for backend in BACKENDS}


@pytest.fixture(scope="session")
def demo(demo_models):
    """The demo model on the fastest backend."""
    return demo_models["hf"]


@pytest.fixture(scope="session")
def demo_contrast():
    """Calibration prompts of the demo world."""
    from lenssteer.studies.demo import demo_contrast

    return demo_contrast()


@pytest.fixture(scope="session")
def norm_out(demo, demo_contrast):
    """Calibration at the norm outputs."""
    from lenssteer.recipe import calibrate

    return calibrate(demo, demo_contrast, sites="norm_out")


@pytest.fixture(scope="session")
def resid_post(demo, demo_contrast):
    """Calibration at the block outputs."""
    from lenssteer.recipe import calibrate

    return calibrate(demo, demo_contrast, sites="resid_post")
