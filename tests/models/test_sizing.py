"""Batches that find their size, and go on where memory runs out."""

import copy
import os
import subprocess
import sys
import warnings
from contextlib import contextmanager

import pytest
import torch

from lenssteer import edits
from lenssteer.capture import capture_moments
from lenssteer.capture.grid import capture_grid
from lenssteer.errors import ModelError, ParameterError
from lenssteer.evals.divergence import Reference
from lenssteer.models import Decoding, LensModel, generate, memory, sizing
from lenssteer.prompts import ContrastSet, Encoded
from lenssteer.site import Site
from lenssteer.steering import Steerer
from lenssteer.sweeps import stacked_answers
from tests.conftest import BACKENDS

PROMPTS = [f"{how} {what} ?" for how in ("how do i paint", "tell me how to hide", "can you bake")
           for what in ("a red cake", "a bomb", "the old kite", "a very small blue boat")]
ANSWERS = Decoding(max_new_tokens=10)


def small(model: LensModel, most: int, error: type[Exception] = torch.OutOfMemoryError, words: str = "full"):
    """The same model with memory for so many rows; and the rows of every pass."""
    backend, seen = copy.copy(model.backend), []
    forward = backend.forward

    def limited(ids, mask, cache=None, keep="last"):
        seen.append(len(ids))
        if len(ids) > most:
            raise error(words)
        return forward(ids, mask, cache, keep)

    backend.forward = limited
    return LensModel(backend, model.tokenizer, model.stop_ids, model.template), seen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("decoding", [ANSWERS, Decoding(10, temperature=1.0, seed=3)], ids=["greedy", "sampled"])
def test_answers_are_the_same_where_memory_runs_out(demo_models, backend, decoding):
    model = demo_models[backend]
    tight, seen = small(model, 3)
    with pytest.warns(sizing.BatchWarning, match=r"12 rows did not fit .* 3 rows of \d+ tokens fit"):
        assert generate(tight, PROMPTS, decoding) == generate(model, PROMPTS, decoding)
    assert seen[:3] == [12, 6, 3]
    assert max(seen[2:]) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(tight, PROMPTS, decoding)
    assert max(seen[2:]) == 3, "the model remembers"


def test_a_stacked_sweep_gives_every_row_its_edit_where_memory_runs_out(demo):
    vector = torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0))
    amounts = torch.tensor([0.0, 4.0, -4.0]).repeat_interleave(4)
    steerer = Steerer({Site(3, "resid_post"): edits.add(vector, amounts)})
    whole = stacked_answers(demo, [(steerer, 3)], PROMPTS[:4], ANSWERS)
    tight, _ = small(demo, 5)
    with pytest.warns(sizing.BatchWarning):
        assert stacked_answers(tight, [(steerer, 3)], PROMPTS[:4], ANSWERS) == whole
    assert whole[0] != whole[1] != whole[2]


def test_captures_and_predictions_are_the_same_where_memory_runs_out(demo):
    contrast, sites = ContrastSet(tuple(PROMPTS[:7]), tuple(PROMPTS[7:])), demo.sites("resid_post")
    whole = capture_moments(demo, contrast, sites), capture_grid(demo, contrast, sites), Reference.of(demo, PROMPTS)
    tight, _ = small(demo, 4, RuntimeError, "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory")
    with pytest.warns(sizing.BatchWarning):
        found = capture_moments(tight, contrast, sites), capture_grid(tight, contrast, sites), Reference.of(tight, PROMPTS)
    torch.testing.assert_close(found[0].positive.mean, whole[0].positive.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].negative, whole[1].negative, atol=1e-5, rtol=0)
    assert found[2].divergence().per_prompt.abs().max() < 1e-5
    assert sorted(torch.cat([one.prompts.rows for one in found[2].forced]).tolist()) == list(range(12))


def test_a_prompt_that_does_not_fit_alone_is_refused_and_other_errors_pass(demo):
    with pytest.raises(ModelError, match=r"one prompt of \d+ tokens and 10 tokens of answer .* memory of cpu"):
        generate(small(demo, 0)[0], PROMPTS[:2], ANSWERS)
    with pytest.raises(RuntimeError, match="broken"):
        generate(small(demo, 1, RuntimeError, "broken")[0], PROMPTS[:2], ANSWERS)
    with pytest.raises(ParameterError, match="at least one row, got 0"):
        generate(demo, PROMPTS, ANSWERS, batch_size=0)


def test_in_halves_runs_every_item_once_and_in_order():
    def run(items):
        if len(items) > 2:
            raise MemoryError
        return sum(items)

    with pytest.warns(sizing.BatchWarning) as said:
        found = list(sizing.in_halves(run, range(7)))
    assert [str(one.message).split(" ")[3] for one in said] == ["7", "3", "4"]
    assert [i for items, _ in found for i in items] == list(range(7))
    assert all(total == sum(items) <= 11 for items, total in found)
    with pytest.raises(ModelError, match="one item"):
        list(sizing.in_halves(lambda items: run([*items, 0, 0]), [1]))


def test_torch_says_that_memory_ran_out():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60)
    assert memory.is_out_of_memory(raised.value)
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert memory.is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 18.1 GB)"))
    assert not memory.is_out_of_memory(RuntimeError("shapes do not match"))
    assert not memory.is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_and_values_take_what_the_config_says(demo_models, backend):
    model = demo_models[backend]
    tokens = torch.randint(5, 50, (3, 11))
    cache = model.backend.new_cache(3)
    model.backend.forward(tokens, torch.ones_like(tokens, dtype=torch.bool), cache)
    if backend == "hooked":
        held = [part for entry in cache.entries for part in (entry.past_keys, entry.past_values)]
    else:
        held = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    kept = sum(part.numel() * part.element_size() for part in held)
    assert 3 * (memory.bytes_a_row(model, 1, 10, False) - memory.bytes_a_row(model, 1, 0, False)) \
        == kept, "11 columns for an answer of ten after one token"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the allocator's peak from Linux")
def test_a_pass_takes_no_more_than_was_reckoned(demo):
    """Against the peak that torch's profiler saw."""
    from torch.profiler import ProfilerActivity, profile

    ids = torch.randint(5, 50, (16, 60))
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        demo.backend.forward(ids, mask, demo.backend.new_cache(16))
    held = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert peak
    assert peak <= 16 * memory.bytes_a_row(demo, 60, 1, False) <= 2 * peak


class _Nowhere:
    """A backend of another device, which nothing runs on."""

    def __init__(self, model, device):
        self.card, self.streams, self.device = model.card, model.backend.streams, torch.device(device)

    def attach(self, site, edit):
        return lambda: None

    def new_cache(self, batch):
        return None

    def take_rows(self, cache, index):
        return cache

    def fork(self, layer, copies, cache):
        return None

    def forward(self, ids, mask, cache=None, keep="last"):
        return torch.zeros(len(ids), 1, 3)


def groups(model, count, length, **options):
    encoded = [Encoded((1,) * length, (0, 1), length)] * count
    return [len(group) for group, _ in sizing.fitting(model, encoded, lambda group: 0, **options)]


def test_on_a_gpu_later_batches_follow_what_the_first_took(demo, monkeypatch):
    """Reckoned: 1000 bytes a row, so 8 of 10 kB free; measured: 20 bytes a column of 10, so 40."""
    model = LensModel(_Nowhere(demo, "cuda"), demo.tokenizer, demo.stop_ids)
    taken = []

    @contextmanager
    def peak(device):
        yield lambda: 20 * 10 * taken[-1]

    monkeypatch.setattr(sizing, "free_bytes", lambda device: 10_000)
    monkeypatch.setattr(sizing, "bytes_a_row", lambda *given: 1000)
    monkeypatch.setattr(sizing, "peak", peak)
    encoded = [Encoded((1,) * 10, (0, 1), 10)] * 100
    sizes = [len(group) for group, _ in sizing.fitting(model, encoded, lambda group: taken.append(len(group)))]
    assert sizes == [8, 40, 40, 12]


def test_without_a_size_memory_and_the_device_bound_a_batch(demo, monkeypatch):
    monkeypatch.setattr(sizing, "free_bytes", lambda device: 1 << 40)
    assert groups(demo, 1200, 4, new=4) == [512, 512, 176]
    assert groups(demo, 1200, 40) == [4096 // 40] * 11 + [1200 - 11 * (4096 // 40)]
    assert groups(demo, 20, 4, new=4, rows=7) == [7, 7, 6]
    assert groups(demo, 20, 4, tokens=25) == [6, 6, 6, 2]
    monkeypatch.setattr(sizing, "free_bytes", lambda device: 2 * 5 * memory.bytes_a_row(demo, 4, 4, False))
    assert groups(demo, 12, 4, new=4) == [5, 5, 2]
    monkeypatch.setattr(sizing, "free_bytes", lambda device: 0)
    assert groups(demo, 2, 4, new=4) == [1, 1]
    with_most = LensModel(demo.backend, demo.tokenizer, demo.stop_ids)
    with_most.most_rows = 3
    assert groups(with_most, 7, 4, new=4) == [3, 3, 1]


def test_a_container_may_take_less_than_the_machine_has(tmp_path):
    assert memory._within_group(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._within_group(tmp_path) == 300
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._within_group(tmp_path) is None


TIGHT = """
import resource, sys, warnings
import torch
torch.set_num_threads(1)
from lenssteer.models import Decoding, generate, load_model
from lenssteer.models.sizing import BatchWarning
model = load_model("demo", backend="hf", check=False)
prompts = ["how do i paint " + "a red cake or " * 8 + str(i % 10) for i in range(96)]
small = generate(model, prompts[:8], Decoding(4), batch_size=8)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (24 << 20), -1))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    answers = generate(model, prompts, Decoding(4), batch_size=96)
assert any(issubclass(one.category, BatchWarning) for one in said), said
assert answers[:8] == small and len(set(map(bool, answers))) == 1
print("fits", model.most_cells)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_process_that_may_take_little_memory_still_answers():
    done = subprocess.run([sys.executable, "-c", TIGHT], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("fits")
