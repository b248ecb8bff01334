"""Whatever ends a block, the model is as it was; the fixture `lens` compares weights and hook lists."""

import gc
from dataclasses import dataclass, replace

import pytest
import torch

from lenssteer import edits
from lenssteer.capture.capture import one_pass
from lenssteer.errors import SiteError, SteeringError
from lenssteer.models import Decoding, generate, stream
from lenssteer.prompts import Columns, pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Rowwise, Steerer, together
from tests.state.conftest import PROMPTS
from tests.state.fingerprint import hooks_of, modules_of, state_of, weights_of

SITE = Site(2, "resid_post")
SHORT = Decoding(3)


class Accident(BaseException):
    """Like KeyboardInterrupt, no Exception."""


@dataclass(frozen=True, eq=False)
class Failing:
    """An edit that breaks in the middle of a pass."""

    d_model: int = 128
    rows: None = None

    def tensors(self):
        return {}

    def to(self, device=None, dtype=None):
        return self

    def take(self, index):
        return self

    def scaled(self, strength):
        return self

    def __call__(self, h):
        raise Accident


def block_module(lens, layer):
    """A module of every backend in which a pass goes through a block."""
    model = getattr(lens.backend.model, "original_model", lens.backend.model)
    return model.blocks[layer] if hasattr(model, "blocks") else model.model.layers[layer]


def break_it(*_args, **_kwargs):
    raise Accident


def break_layer_5(lens, monkeypatch):
    """The sixth MLP that runs breaks, from inside."""
    mlp = block_module(lens, 0).mlp
    kind = type(getattr(mlp, "original_component", mlp))
    forward, calls = kind.forward, []

    def breaking(*args, **kwargs):
        calls.append(True)
        return break_it() if len(calls) == 6 else forward(*args, **kwargs)

    monkeypatch.setattr(kind, "forward", breaking)


def test_the_fingerprint_sees_a_hook_and_a_bit(demo):
    before, module = state_of(demo), block_module(demo, 3)
    handle = module.register_forward_hook(lambda *_: None)
    assert hooks_of(demo) != before["hooks"]
    handle.remove()
    assert state_of(demo) == before
    weight = next(module.parameters())
    with torch.no_grad():
        kept = weight.view(-1)[0].item()
        weight.view(-1)[0] = -kept
        assert weights_of(demo) != before["weights"]
        weight.view(-1)[0] = kept
    assert state_of(demo) == before


def test_inside_the_block_there_are_hooks(lens, steerer):
    before = hooks_of(lens)
    with steerer.on(lens):
        assert hooks_of(lens) != before
        generate(lens, PROMPTS, SHORT)


@pytest.mark.parametrize("made", ["alone", "together", "summed", "rowwise", "gated"])
def test_an_exception_in_the_body(lens, steerer, made):
    gate = Condition(Site(1, "resid_pre"), torch.ones(128), 0.0)
    block = {"alone": steerer, "together": together(steerer, steerer, conflict="chain"),
             "summed": together(steerer, steerer, conflict="sum"), "rowwise": Rowwise(((steerer, 1), (None, 1))),
             "gated": steerer.when(gate)}[made]
    with pytest.raises(Accident), block.on(lens):
        generate(lens, PROMPTS, SHORT)
        raise Accident


def test_an_exception_in_a_hook_of_the_users(lens, steerer):
    handle = block_module(lens, 5).register_forward_hook(break_it)
    try:
        with pytest.raises(Accident), steerer.on(lens):
            generate(lens, PROMPTS, SHORT)
        with pytest.raises(Accident):
            one_pass(lens, pad(lens.encode(PROMPTS)), [Site(3, "resid_pre"), Site(6, "resid_post")],
                     torch.eye(1, len(lens.encode(PROMPTS)[0].ids)).expand(2, 1, -1))
    finally:
        handle.remove()


def test_an_exception_in_the_edit(lens):
    with pytest.raises(Accident), Steerer({SITE: Failing()}).on(lens):
        generate(lens, PROMPTS, SHORT)


def test_an_exception_in_the_model(lens, steerer, monkeypatch):
    break_layer_5(lens, monkeypatch)
    with pytest.raises(Accident), steerer.on(lens):
        generate(lens, PROMPTS, SHORT)


def test_an_exception_while_prompts_share_a_pass(lens, steerer, monkeypatch):
    """The pass that forks rows at layer 2 ends at layer 5; its own hooks are gone too."""
    break_layer_5(lens, monkeypatch)
    with pytest.raises(Accident), steerer.on(lens):
        generate(lens, PROMPTS * 2, SHORT, batch_size=4)


def test_a_site_that_is_refused_half_way(lens):
    tokens = pad(lens.encode(PROMPTS))
    with pytest.raises(SiteError, match="layers 0 to 7"):
        one_pass(lens, tokens, [SITE, Site(99, "resid_post")], torch.ones(2, 1, tokens.ids.shape[1]))


def test_activations_that_are_not_finite(lens):
    broken = Steerer({SITE: edits.add(torch.full((128,), 3e38), 2.0)})
    with pytest.raises(SteeringError, match=r"non-finite at resid_post\.2 in \d+ tokens"), broken.on(lens):
        generate(lens, PROMPTS, SHORT)


def test_a_stream_abandoned_half_way(lens, steerer):
    plain = generate(lens, PROMPTS, SHORT)
    with steerer.on(lens):
        answers = stream(lens, PROMPTS, Decoding(8))
        next(answers)
        next(answers)
        answers.close()
    left = stream(lens, PROMPTS, Decoding(8))
    next(left)
    del left
    gc.collect()
    assert generate(lens, PROMPTS, SHORT) == plain


def test_a_block_abandoned_inside_a_generator(lens, steerer):
    def answers():
        with steerer.on(lens):
            yield from stream(lens, PROMPTS, Decoding(8))

    before, running = hooks_of(lens), answers()
    next(running)
    assert hooks_of(lens) != before
    running.close()
    assert hooks_of(lens) == before


def test_blocks_closed_in_any_order(lens, steerer):
    tokens = pad(lens.encode(PROMPTS[:1]))
    plain = lens.logits(tokens)
    reflected = replace(steerer, edits={SITE: edits.reflect(torch.ones(128))})
    with reflected.on(lens):
        alone = lens.logits(tokens)
    outer, inner = steerer.on(lens), reflected.on(lens)
    with pytest.raises(Accident), steerer.on(lens), steerer.on(lens), steerer.on(lens):
        raise Accident
    for one in (outer, inner):
        one.__enter__()
    both = lens.logits(tokens)
    outer.__exit__(None, None, None)
    one = lens.logits(tokens)
    inner.__exit__(None, None, None)
    assert torch.equal(lens.logits(tokens), plain)
    assert torch.equal(one, alone)
    assert not torch.equal(both, one)


def test_detaching_twice_takes_nothing_of_others(lens):
    first, second = lens.attach(SITE, lambda h, _: h * 2), lens.attach(SITE, lambda h, _: h * 3)
    first()
    first()
    assert lens._hooked == [SITE]
    second()


def test_train_inside_is_what_the_user_made_of_it(lens, steerer):
    model = lens.backend.model
    was = [(module, module.training) for module in modules_of(lens)]
    plain = generate(lens, PROMPTS, SHORT)
    try:
        with steerer.on(lens):
            model.train()
            generate(lens, PROMPTS, SHORT)
        assert all(module.training for module in model.modules())
    finally:
        for module, training in was:
            module.training = training
    assert generate(lens, PROMPTS, SHORT) == plain


def test_gradients_are_as_they_were(lens, steerer):
    tokens = pad(lens.encode(PROMPTS))
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode(), pytest.raises(Accident), steerer.on(lens):
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            lens.run(tokens.ids, Columns(0, tokens.mask, tokens))
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
            raise Accident
