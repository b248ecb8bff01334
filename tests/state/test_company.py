"""Other hooks, other passes, other threads: each sees what it would see without ours, but for the edit."""

import asyncio
import copy
import pickle
import threading

import pytest
import torch

from lenssteer import edits
from lenssteer.capture import capture_samples
from lenssteer.errors import SteeringError
from lenssteer.models import Decoding, generate, stream
from lenssteer.prompts import ContrastSet, pad
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer
from tests.state.conftest import PROMPTS
from tests.state.fingerprint import hooks_of
from tests.state.test_accidents import block_module

SITE = Site(2, "resid_post")
SHORT = Decoding(3)
VECTOR = 3 * torch.randn(128, generator=torch.Generator().manual_seed(1))
ADD = Steerer({SITE: edits.add(VECTOR)})


def user_hook(lens, hook, *, permanent=False):
    """A hook of the user's on the output of block 2, the way users of the backend add one."""
    points = getattr(lens.backend.model, "hook_dict", None)
    if points is None:
        def through(_module, _args, output):
            new = hook(output[0] if isinstance(output, tuple) else output)
            return None if new is None else (new, *output[1:]) if isinstance(output, tuple) else new
        return block_module(lens, 2).register_forward_hook(through).remove
    names = [name for name in ("blocks.2.hook_resid_post", "blocks.2.hook_out") if name in points]
    point = points[names[0]]
    point.add_hook(lambda tensor, hook_point=None, **_: hook(tensor), is_permanent=permanent)
    handle = point.fwd_hooks[-1]

    def remove():
        handle.hook.remove()
        point.fwd_hooks[:] = [one for one in point.fwd_hooks if one is not handle]

    return remove


@pytest.mark.parametrize("permanent", [False, True])
def test_hooks_before_and_after_ours_see_what_they_would_see(lens, permanent):
    tokens, seen = pad(lens.encode(PROMPTS)), {"before": [], "after": [], "clean": []}
    undo = user_hook(lens, lambda h: seen["clean"].append(h.clone()), permanent=permanent)
    lens.logits(tokens)
    undo()
    first = user_hook(lens, lambda h: seen["before"].append(h.clone()), permanent=permanent)
    hooks = hooks_of(lens)
    with ADD.on(lens):
        second = user_hook(lens, lambda h: seen["after"].append(h.clone()), permanent=permanent)
        lens.logits(tokens)
        second()
    assert hooks_of(lens) == hooks, "the user's own hook is still there, and nothing else"
    first()
    [clean], [before], [after] = seen["clean"], seen["before"], seen["after"]
    assert torch.equal(before, clean)
    assert torch.equal(after, torch.where(tokens.mask.unsqueeze(-1), clean + VECTOR, clean))


def test_hooks_that_change_activations_chain_with_ours(lens):
    tokens, seen = pad(lens.encode(PROMPTS[:1])), []
    undo = user_hook(lens, lambda h: seen.append(h.clone()))
    lens.logits(tokens)
    undo()
    for ours_first, expected in ((False, 2 * seen[0] + VECTOR), (True, 2 * (seen[0] + VECTOR))):
        found = []
        undo = [] if ours_first else [user_hook(lens, lambda h: 2 * h)]
        with ADD.on(lens):
            undo += [user_hook(lens, lambda h: 2 * h)] if ours_first else []
            undo += [user_hook(lens, lambda h, found=found: found.append(h.clone()))]
            lens.logits(tokens)
            for one in undo:
                one()
        torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-6)


def test_reset_hooks_of_a_user_leaves_the_edit(lens):
    if not hasattr(lens.backend.model, "reset_hooks"):
        pytest.skip("plain transformers has no reset_hooks")
    with ADD.on(lens):
        steered = generate(lens, PROMPTS, SHORT)
        lens.backend.model.reset_hooks()
        assert generate(lens, PROMPTS, SHORT) == steered


def test_run_with_cache_inside_the_block_sees_the_edit(lens):
    model = lens.backend.model
    if not hasattr(model, "run_with_cache"):
        pytest.skip("plain transformers has no run_with_cache")
    ids = torch.tensor([[1, 5, 6, 7]])
    name = next(n for n in ("blocks.2.hook_resid_post", "blocks.2.hook_out") if n in model.hook_dict)
    with torch.no_grad():
        clean = model.run_with_cache(ids)[1][name]
        with ADD.on(lens):
            found = model.run_with_cache(ids)[1][name]
            again = model.run_with_cache(ids)[1][name]
    torch.testing.assert_close(found, clean + VECTOR)
    assert torch.equal(found, again)


def test_generate_inside_a_hook(lens):
    """A hook answers other prompts in the middle of a pass; pass and inner answers are what they are alone."""
    with ADD.on(lens):
        alone, inner_alone = generate(lens, PROMPTS[:1], SHORT), generate(lens, PROMPTS[1:], SHORT)
    found, busy = [], []

    def ask(_h):
        if not busy:
            busy.append(True)
            found.append(generate(lens, PROMPTS[1:], SHORT))
            busy.clear()

    undo = user_hook(lens, ask)
    with ADD.on(lens) as receipt:
        assert generate(lens, PROMPTS[:1], SHORT) == alone
    undo()
    assert len(found) == 3
    assert all(answers == inner_alone for answers in found)
    assert receipt.sites[SITE].passes == 3 + 3 * 3


def test_generate_inside_a_hook_of_a_capture(lens):
    contrast, sites = ContrastSet(tuple(PROMPTS[:1]), tuple(PROMPTS[1:])), [Site(1, "resid_post"), Site(4, "resid_post")]
    plain, busy = capture_samples(lens, contrast, sites), []

    def ask(_h):
        if not busy:
            busy.append(True)
            generate(lens, ["is it a cake ?"], SHORT)
            busy.clear()

    undo = user_hook(lens, ask)
    found = capture_samples(lens, contrast, sites)
    undo()
    assert torch.equal(found.positive, plain.positive)
    assert torch.equal(found.negative, plain.negative)


def test_streams_that_take_turns_under_one_steerer(lens):
    with ADD.on(lens):
        alone = [list(stream(lens, [prompt], Decoding(5))) for prompt in PROMPTS]
        turns = zip(*(stream(lens, [prompt], Decoding(5)) for prompt in PROMPTS), strict=False)
        for k, (one, two) in enumerate(turns):
            assert (one, two) == (alone[0][k], alone[1][k])


def test_streams_that_take_turns_under_a_gate_are_refused(lens):
    """A gate remembers one batch of prompts; it says so, and decides nothing for others."""
    gated = ADD.when(Condition(Site(1, "resid_pre"), torch.ones(128), -2.0))
    with pytest.raises(SteeringError, match="has not read these prompts"), gated.on(lens):
        one, two = (stream(lens, [prompt], Decoding(5)) for prompt in PROMPTS)
        next(one), next(two), next(one)


def test_a_pass_of_another_thread_in_the_middle_of_ours_is_refused(lens):
    refused, answers = [], []

    def other():
        for act in (lambda: generate(lens, PROMPTS, SHORT), lambda: ADD.on(lens).__enter__()):
            with pytest.raises(SteeringError, match="another thread") as error:
                act()
            refused.append(str(error.value))

    def meanwhile(_h):
        if not refused:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    with ADD.on(lens):
        alone = generate(lens, PROMPTS, SHORT)
    undo = user_hook(lens, meanwhile)
    with ADD.on(lens):
        answers = generate(lens, PROMPTS, SHORT)
    undo()
    assert len(refused) == 2
    assert answers == alone


def test_threads_take_turns_and_unsteered_ones_may_meet(lens):
    """What one thread attached is there for all; without hooks of ours, threads do not see each other."""
    with ADD.on(lens):
        steered = generate(lens, PROMPTS, SHORT)
    plain = generate(lens, PROMPTS, SHORT)
    assert steered != plain
    found = {}

    def run(name, repeats=1):
        found[name] = [generate(lens, PROMPTS, SHORT) for _ in range(repeats)]

    def each(threads):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with ADD.on(lens):
        each([threading.Thread(target=run, args=("inside",))])
    assert found["inside"] == [steered]
    each([threading.Thread(target=run, args=(i, 2)) for i in range(2)])
    assert found[0] == found[1] == [plain] * 2


def test_tasks_that_take_turns(lens):
    async def answers(prompt):
        found = []
        for now in stream(lens, [prompt], Decoding(4)):
            found = now
            await asyncio.sleep(0)
        return found[0]

    async def both():
        with ADD.on(lens):
            return await asyncio.gather(*(answers(prompt) for prompt in PROMPTS))

    with ADD.on(lens):
        alone = [generate(lens, [prompt], Decoding(4))[0] for prompt in PROMPTS]
    assert asyncio.run(both()) == alone


def test_a_cancelled_task_leaves_no_hook(lens):
    async def forever():
        with ADD.on(lens):
            generate(lens, PROMPTS, SHORT)
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = hooks_of(lens)
    asyncio.run(main())
    assert hooks_of(lens) == before


def test_a_copy_made_inside_is_unsteered_afterwards(lens):
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        def run(model):
            out = model(ids)
            return out.logits if hasattr(out, "logits") else out

        plain = run(lens.backend.model)
        with ADD.on(lens):
            twin = copy.deepcopy(lens.backend.model)
            assert not torch.equal(run(lens.backend.model), plain)
        assert torch.equal(run(twin), plain)
        assert torch.equal(run(lens.backend.model), plain)


def test_a_model_is_not_pickled_while_it_is_steered(lens):
    """Python refuses hooks that are functions of a running block; the model is none the worse."""
    with ADD.on(lens):
        with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
            pickle.dumps(lens.backend.model)
        generate(lens, PROMPTS, SHORT)
