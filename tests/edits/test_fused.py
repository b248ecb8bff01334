"""The fused map has the values of the plain one."""

import os
import subprocess
import sys

import pytest
import torch

from lenssteer import edits
from lenssteer.edits import LowRankEdit, apply_edit, fused
from tests.edits.oracle import low_rank

D = 24


def made(rank=2, rows=None, gate=False, seed=0, norm="none", radius="plane", radial=True, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, several=True):
        return torch.randn(*([rows] if rows and several else []), *shape, generator=draw, dtype=torch.float64).to(dtype)

    read = torch.linalg.qr(normal(D, rank, several=False))[0].mT.contiguous()
    signs = (torch.arange(rank * rank).reshape(rank, rank) % 3 - 1).to(dtype) if gate else None
    return LowRankEdit(read, read.clone(), normal(rank, rank), normal(rank), normal(rank) * radial, normal(rank),
                       signs, normal(rank) if gate else None, norm=norm, radius=radius)


EDITS = {
    "rank 1": made(1), "rank 2": made(2, radial=False), "gated": made(3, gate=True), "rank 6": made(6),
    "preserve": made(2, norm="preserve"), "cap": made(2, norm="cap"), "complement": made(2, radius="complement"),
    "rows": made(2, rows=3), "gated rows": made(2, rows=3, gate=True, norm="preserve"), "rank 6 rows": made(6, rows=3),
}


@pytest.fixture
def uncompiled(monkeypatch):
    """The map itself; what a compiler makes of it is tested below."""
    monkeypatch.setattr(fused, "_compiled", lambda compiler: fused._mapped)


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("shape", [(3, 5, D), (3, D)], ids=str)
def test_values_are_those_of_the_plain_map(uncompiled, name, shape):
    h = torch.randn(shape, generator=torch.Generator().manual_seed(7)) * 3
    torch.testing.assert_close(fused.apply_fused(EDITS[name], h), apply_edit(EDITS[name], h), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["rank 2", "gated", "preserve", "complement"])
def test_values_are_those_of_the_formula(uncompiled, name):
    edit = EDITS[name].to(dtype=torch.float64)
    h = torch.randn(6, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shut = {"gate": torch.zeros(edit.rank, edit.rank), "threshold": torch.zeros(edit.rank)}
    arrays = {key: value.numpy() for key, value in (shut | edit.tensors()).items()}
    found = fused.apply_fused(edit, h)
    for line, new in zip(h.numpy(), found.numpy(), strict=True):
        assert new == pytest.approx(low_rank(line, arrays, norm=edit.norm, radius=edit.radius), abs=1e-12)


def test_bfloat16_is_worked_in_float32(uncompiled):
    h = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(2)).bfloat16()
    new = fused.apply_fused(EDITS["rank 2"], h)
    assert new.dtype == torch.bfloat16
    assert torch.equal(new, apply_edit(EDITS["rank 2"], h))


def test_a_closed_gate_and_a_zero_update_leave_every_bit(uncompiled):
    h = torch.randn(4, 5, D, generator=torch.Generator().manual_seed(3))
    shut = edits.gated(edits.add(torch.ones(D), 2.0), torch.eye(D)[0], threshold=1e9)
    assert torch.equal(fused.apply_fused(shut, h), h)
    assert torch.equal(fused.apply_fused(LowRankEdit.identity(D), h), h)


def test_it_is_never_chosen_on_a_cpu():
    with torch.no_grad():
        assert not fused.is_worth_it(torch.randn(2, D))


class OnCuda(torch.Tensor):
    """A tensor that says it is on CUDA."""

    is_cuda = True


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("triton", [True, False])
@pytest.mark.parametrize("compiling", [True, False])
@pytest.mark.parametrize("cuda", [True, False])
def test_it_is_chosen_on_cuda_without_gradients_where_kernels_can_be_compiled(monkeypatch, cuda, grad, triton, compiling):
    monkeypatch.setattr(fused, "_has_triton", lambda: triton)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    h = torch.randn(2, D)
    with torch.set_grad_enabled(grad):
        assert fused.is_worth_it(h.as_subclass(OnCuda) if cuda else h) is (cuda and not grad and triton and not compiling)


@pytest.mark.parametrize("worth", [True, False])
@pytest.mark.parametrize("name", ["rank 2", "gated rows"])
def test_apply_edit_takes_it_where_it_is_worth_it(uncompiled, monkeypatch, worth, name):
    edit, h, taken = EDITS[name].to(dtype=torch.float64), torch.randn(3, 5, D), []
    monkeypatch.setattr(fused, "is_worth_it", lambda one: worth)
    apply = fused.apply_fused
    monkeypatch.setattr(fused, "apply_fused", lambda one, at: taken.append((one.read.dtype, at.shape)) or apply(one, at))
    found = apply_edit(edit, h.as_subclass(OnCuda))
    torch.testing.assert_close(found.as_subclass(torch.Tensor), apply_edit(edit, h), atol=1e-5, rtol=1e-5)
    assert taken == [(torch.float32, h.shape)] * worth


def test_coordinates_that_are_never_written_count_in_no_radius(uncompiled):
    h = torch.randn(6, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for radius in ("plane", "complement"):
        edit = edits.gated(EDITS["complement" if radius == "complement" else "rank 2"].to(dtype=torch.float64), torch.ones(D), 0.1)
        arrays = {key: value.numpy() for key, value in edit.tensors().items()}
        for line, new in zip(h.numpy(), fused.apply_fused(edit, h).numpy(), strict=True):
            assert new == pytest.approx(low_rank(line, arrays, radius=radius), abs=1e-12)


@pytest.mark.parametrize("rank", [4, 5])
def test_few_and_many_lines_give_the_same(uncompiled, rank):
    edit = made(rank, gate=True, dtype=torch.float64)
    arrays = {key: value.numpy() for key, value in edit.tensors().items()}
    h = torch.randn(2, 3, D, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    assert fused.apply_fused(edit, h)[1, 2].numpy() == pytest.approx(low_rank(h[1, 2].numpy(), arrays), abs=1e-12)


def test_the_compiler_is_inductor_with_any_shape(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append((function, options)) or function)
    fused._compiled.cache_clear()
    try:
        edit, h = EDITS["rank 2"], torch.randn(2, D)
        torch.testing.assert_close(fused.apply_fused(edit, h), apply_edit(edit, h), atol=1e-5, rtol=1e-5)
        fused.apply_fused(edit, h)
    finally:
        fused._compiled.cache_clear()
    assert asked == [(fused._mapped, {"backend": "inductor", "dynamic": True})], "once"


def test_as_many_kernels_are_kept_as_there_are_kinds(monkeypatch):
    limits = []
    monkeypatch.setattr(fused, "_compiled", lambda compiler: limits.append(torch._dynamo.config.recompile_limit) or fused._mapped)
    before = torch._dynamo.config.recompile_limit
    fused.apply_fused(EDITS["rank 2"], torch.randn(2, D))
    assert limits == [fused.KERNELS]
    assert fused.KERNELS >= 64 > before == torch._dynamo.config.recompile_limit


def test_triton_is_looked_for(monkeypatch):
    for found in (object(), None):
        asked = []
        monkeypatch.setattr(fused, "find_spec", lambda name: asked.append(name) or found)  # noqa: B023
        fused._has_triton.cache_clear()
        assert fused._has_triton() is (found is not None)
        assert asked == ["triton"]
    fused._has_triton.cache_clear()


COMPILED = """
import torch
from torch._dynamo.utils import counters
torch.set_num_threads(1)
from lenssteer import edits
from lenssteer.edits import apply_edit, fused
basis = torch.linalg.qr(torch.randn(24, 2, generator=torch.Generator().manual_seed(0)))[0].mT.contiguous()
turned = edits.rotate_by(basis.double(), degrees=torch.tensor([30.0, 200.0, 90.0])).to(dtype=torch.float32)
for edit in (edits.gated(edits.add(basis[0], 2.0), basis[1], threshold=0.1), turned):
    for tokens in (7, 33, 64, 5, 1000):
        h = torch.randn(3, tokens, 24)
        torch.testing.assert_close(fused.apply_fused(edit, h), apply_edit(edit, h), atol=1e-5, rtol=1e-5)
assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"], counters
"""


@pytest.mark.slow
def test_one_compiled_kernel_for_each_kind_of_edit_serves_all_shapes():
    """In a process of its own, where nothing checks shapes and makes the compiler stumble."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
