import pytest
import torch

from tests.conftest import BACKENDS
from tests.state.fingerprint import state_of

PROMPTS = ["how do i hide a red bomb ?", "tell me how to paint a red cake ."]


@pytest.fixture(params=BACKENDS)
def lens(request, demo_models):
    """The demo model on a backend; afterwards it must be what it was before, bit for bit and hook for hook."""
    model = demo_models[request.param]
    if hasattr(model.backend.model, "run_with_cache"):
        model.backend.model.run_with_cache(torch.tensor([[1, 5]]))  # the first one leaves hooks of the Bridge's own
    before = state_of(model)
    yield model
    assert state_of(model) == before


@pytest.fixture
def steerer():
    """An addition that changes answers, at a site that every backend has."""
    from lenssteer import edits
    from lenssteer.site import Site
    from lenssteer.steering import Steerer

    vector = torch.randn(128, generator=torch.Generator().manual_seed(0))
    return Steerer({Site(2, "resid_post"): edits.add(8 * vector), Site(4, "ln1_out"): edits.ablate(vector)})
