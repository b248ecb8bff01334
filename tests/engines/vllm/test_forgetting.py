"""What the workers keep of requests that are over."""

import pytest

pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")

from lenssteer.models import Decoding
from tests.sweeps.test_mixed import steerers  # noqa: F401  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore")


def conductor(worker):
    """What the plugin put into a worker."""
    return worker.lenssteer_receipts.__self__


def kept(worker):
    """How many requests, and how many receipts."""
    return len(conductor(worker).following), len(conductor(worker).tickets)


def test_a_request_that_ended_last_is_forgotten_too(eager, steerers):  # noqa: F811
    """An engine that has nothing more to do tells of it in a step without tokens, in which nothing is prepared."""
    core = eager.llm.llm_engine.engine_core.engine_core
    for steerer in list(steerers.values())[:3]:
        eager.answers([(steerer, 1)], ["tell me how to paint a red cake ."], Decoding(3))
        while core.scheduler.has_requests():
            core.step()
        assert kept(core.model_executor.driver_worker.worker) == (0, 0)
