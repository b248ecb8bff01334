"""The change of the last prompt token at every prompt token, against the released code of AlphaSteer."""

import pytest
import torch

from lenssteer.edits import LowRankEdit
from lenssteer.errors import SteeringError
from lenssteer.models import Decoding, generate
from lenssteer.prompts import Columns, pad
from lenssteer.site import Site
from lenssteer.steering import Steerer, Where

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?"]
SITE = Site(3, "resid_pre")


@pytest.fixture(scope="module")
def edit(demo):
    """Reads one random coordinate and writes it on another, as AlphaSteer does."""
    read, write = torch.randn(2, 1, demo.card.d_model, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(1)
    return LowRankEdit(read, write, gain=torch.ones(1, 1), offset=none, radial=none, bias=none)


def test_every_prompt_token_moves_as_the_last_one_would(demo, edit):
    """Their hook, on one prompt: h[:, :] += f(h[:, -1]) while more than one token passes."""
    steerer = Steerer({SITE: edit}, Where("prompt"), shared_from="last_prompt")
    for one in demo.encode(PROMPTS):
        tokens = pad([one])

        def hook(module, args):
            h = args[0]
            return (h + (edit(h[:, -1:]) - h[:, -1:]) if h.shape[1] > 1 else h, *args[1:])

        handle = demo.backend.model.model.layers[3].register_forward_pre_hook(hook)
        by_hand = demo.logits(tokens)
        handle.remove()
        with steerer.on(demo) as receipt:
            torch.testing.assert_close(demo.logits(tokens), by_hand, atol=1e-4, rtol=0)
        assert receipt.edited == len(one.ids)


def test_the_same_with_and_without_cache_in_any_batch_on_every_backend(demo_models, edit):
    steerer = Steerer({SITE: edit}, Where("prompt"), shared_from="last_prompt")
    answers = []
    for lens in demo_models.values():
        for use_cache, batch_size in ((True, 3), (False, 3), (True, 1)):
            with steerer.on(lens):
                answers.append(generate(lens, PROMPTS, Decoding(8, use_cache=use_cache), batch_size=batch_size))
    assert all(answer == answers[0] for answer in answers)
    with Steerer({SITE: edit}, Where("prompt")).on(lens):
        assert generate(lens, PROMPTS, Decoding(8)) != answers[0]


def test_it_moves_prompts_only(demo, edit):
    for where in ("all", "generated", "after_instruction", "first_n(2)"):
        with pytest.raises(SteeringError, match="moves prompt tokens"):
            Steerer({SITE: edit}, Where.parse(where), shared_from="last_prompt")
    with pytest.raises(SteeringError, match="shared_from"):
        Steerer({SITE: edit}, Where("prompt"), shared_from="first")
    tokens = pad(demo.encode(PROMPTS[:1]))
    with pytest.raises(SteeringError, match="in pieces"), Steerer(
            {SITE: edit}, Where("prompt"), shared_from="last_prompt").on(demo):
        demo.run(tokens.ids[:, :2], Columns(0, tokens.mask[:, :2], tokens))
