"""Engines that the tests share; each is started once a session, in this process."""

import os

import pytest

for name, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR",
                    "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(name, value)


KEPT = []
"""An engine that is collected takes down what all engines of a process share."""


def started(name="demo", **options):
    """An engine in this process; blocks of 32 tokens, so that short prompts fill some."""
    pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")
    from lenssteer.engines.vllm.loading import load_vllm

    KEPT.append(load_vllm(name, block_size=32, **options))
    return KEPT[-1]


@pytest.fixture(scope="session")
def compiled():
    """The demo model as a compiled graph with an op at every site."""
    return started()


@pytest.fixture(scope="session")
def eager():
    """The demo model without a graph."""
    return started(enforce_eager=True)


@pytest.fixture(scope="session")
def hooked():
    """The demo model as a HookedTransformer: what every engine is compared with."""
    from lenssteer.models import load_model

    return load_model("demo", backend="hooked", check=False)
