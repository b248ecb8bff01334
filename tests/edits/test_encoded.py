"""Edits that encode each token, on autoencoders made by hand and worked out in NumPy."""

import jaxtyping
import numpy as np
import pytest
import torch

from lenssteer.edits import SaeEdit, clamp_latent, scale_latent
from lenssteer.errors import ParameterError, ShapeError
from lenssteer.saes import Sae
from lenssteer.site import Site

SITE = Site(3, "resid_post")
LATENTS = torch.tensor([4, 1])
GAIN, OFFSET = torch.tensor([-0.5, 2.0], dtype=torch.float64), torch.tensor([3.0, -1.0], dtype=torch.float64)


def sae(kind="standard", dtype=torch.float64, **options) -> Sae:
    draw = torch.Generator().manual_seed(0)
    arrays = {name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)
              for name, shape in {"W_enc": (5, 7), "W_dec": (7, 5), "b_dec": (5,), "b_enc": (7,)}.items()}
    return Sae(SITE, kind, **arrays, **({"k": 3} if kind == "topk" else {}), **options)


def activation(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def latents_of(one: Sae, h: np.ndarray) -> np.ndarray:
    """Standard: relu; topk: the three largest, where they are positive."""
    m = (h - one.b_dec.numpy()) @ one.W_enc.numpy() + one.b_enc.numpy()
    if one.kind == "topk":
        m = np.where(m >= np.sort(m, -1)[..., -3:-2], m, 0)
    return np.maximum(m, 0)


def unchecked(make):
    """What comes of it where nothing but the package itself checks shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return make()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("only_active", [True, False])
@pytest.mark.parametrize("kind", ["standard", "topk"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 2)])
def test_the_change_is_that_of_the_latents(kind, only_active, shape):
    one, h = sae(kind, apply_b_dec_to_input=True), activation(*shape)
    f = latents_of(one, h.numpy())[..., LATENTS]
    change = GAIN.numpy() * f + OFFSET.numpy() * ((f > 0) if only_active else 1)
    found = SaeEdit(one, LATENTS, GAIN, OFFSET, only_active)(h)
    np.testing.assert_allclose(found, h.numpy() + change @ one.W_dec.numpy()[LATENTS], rtol=1e-12, atol=1e-12)


def test_without_rows_and_by_default_silent_latents_are_offset_too():
    edit = SaeEdit(sae(), LATENTS, GAIN, OFFSET)
    assert (edit.rows, edit.d_model, edit.only_active, edit.kind) == (None, 5, False, "sae")
    assert torch.equal(edit.write, edit.sae.W_dec[LATENTS])
    rowed = SaeEdit(sae(), LATENTS, GAIN, OFFSET.expand(3, 2))
    assert (rowed.rows, SaeEdit(sae(), LATENTS, GAIN.expand(2, 2), OFFSET).rows) == (3, 2)


def test_amounts_of_another_shape_are_refused():
    for gain, offset in ((GAIN[:1], OFFSET[:1]), (GAIN.expand(2, 2), OFFSET.expand(3, 2)), (GAIN.expand(2, 2, 2), OFFSET.expand(2, 2, 2)),
                         (GAIN, OFFSET[:1]), (GAIN[0], OFFSET)):
        with pytest.raises(ShapeError, match=r"shape \[2\], one a latent.*; got \[.*\], \[.*\]\.$") as told:
            unchecked(lambda gain=gain, offset=offset: SaeEdit(sae(), LATENTS, gain, offset))
        assert f"got {list(gain.shape)}, {list(offset.shape)}." in str(told.value)
    assert SaeEdit(sae(), LATENTS, GAIN.expand(3, 2), OFFSET.expand(3, 2)).rows == 3


def test_activations_of_another_width_or_batch_are_refused():
    plain, rowed = SaeEdit(sae(), LATENTS, GAIN, OFFSET), SaeEdit(sae(), LATENTS, GAIN.expand(3, 2), OFFSET)
    with pytest.raises(ShapeError, match=r"for d_model 5 and any rows; the activation is \[2, 4\]"):
        plain(torch.zeros(2, 4))
    for wrong in ((5,), (2, 5), (4, 1, 5)):
        with pytest.raises(ShapeError, match=rf"for d_model 5 and 3 rows; the activation is \[{', '.join(map(str, wrong))}\]"):
            rowed(torch.zeros(wrong))
    assert rowed(activation(3)).shape == (3, 5)


def test_every_row_gets_its_own_amount():
    gains = torch.stack([GAIN, 2 * GAIN, 0 * GAIN])
    for edit in (SaeEdit(sae(), LATENTS, gains, OFFSET), SaeEdit(sae(), LATENTS, GAIN, gains + 1)):
        for shape in ((3,), (3, 4), (3, 2, 4)):
            h = activation(*shape)
            for row in range(3):
                alone = SaeEdit(sae(), LATENTS, *(amount[row] if amount.ndim > 1 else amount for amount in (edit.gain, edit.offset)))
                torch.testing.assert_close(edit(h)[row], alone(h[row]), atol=1e-12, rtol=0)


def test_rows_are_taken_by_number_from_zero():
    edit = SaeEdit(sae(), LATENTS, torch.stack([GAIN, 2 * GAIN, 3 * GAIN]), OFFSET)
    taken = edit.take(torch.tensor([2, 0]))
    torch.testing.assert_close(taken.gain, torch.stack([3 * GAIN, GAIN]))
    assert taken.offset is edit.offset, "what is shared stays shared"
    assert edit.take(torch.tensor([], dtype=torch.long)).gain.shape == (0, 2)
    assert edit.take(torch.tensor([1])).gain.tolist() == [(2 * GAIN).tolist()]
    for index, named in (([3], 3), ([-1], -1), ([0, 5, 1], 5)):
        with pytest.raises(ShapeError, match=f"^row {named} was asked for, but the edit has 3 rows; give one prompt a row"):
            edit.take(torch.tensor(index))
    with pytest.raises(ParameterError, match="make it with a tensor of one amount a row"):
        SaeEdit(sae(), LATENTS, GAIN, OFFSET).take(torch.tensor([0]))


@pytest.mark.parametrize(("given", "works_in"), [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)])
def test_activations_are_edited_in_the_dtype_it_is_defined_for(given, works_in, monkeypatch):
    seen, encode = [], Sae.encode
    monkeypatch.setattr(Sae, "encode", lambda self, h: seen.append((self.dtype, h.dtype)) or encode(self, h))
    for stored in (torch.float64, torch.float32):
        edit = SaeEdit(sae(dtype=stored), LATENTS, GAIN.to(stored), OFFSET.to(stored))
        assert edit(activation(2).to(given)).dtype == given
    assert seen == [(works_in, works_in)] * 2


def test_all_arrays_move_and_latents_stay_whole():
    moved = SaeEdit(sae(), LATENTS, GAIN, OFFSET, True).to(dtype=torch.float32)
    assert moved.latents.dtype == torch.long
    assert {tensor.dtype for name, tensor in moved.tensors().items() if name != "latents"} == {torch.float32}
    assert moved.only_active is True


def test_strengths_multiply_what_is_written():
    edit = SaeEdit(sae(), LATENTS, GAIN, OFFSET)
    scaled = edit.scaled(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(scaled.gain, torch.stack([2 * GAIN, -GAIN]))
    torch.testing.assert_close(scaled.offset, torch.stack([2 * OFFSET, -OFFSET]))
    assert edit.scaled(0.5).rows is None
    for wrong in (torch.ones(2, 2), torch.tensor([1.0, torch.nan])):
        with pytest.raises(ParameterError, match="strength must be one finite number, or one a row; got "):
            edit.scaled(wrong)


def test_tensors_and_options_describe_it_whole():
    edit = SaeEdit(sae("topk"), LATENTS, GAIN, OFFSET, True)
    tensors, options = edit.tensors(), edit.options()
    assert {"latents", "gain", "offset", "sae.W_enc", "sae.W_dec", "sae.b_dec", "sae.b_enc"} <= set(tensors)
    assert (options["site"], options["only_active"], options["sae"]["k"], options["sae"]["kind"]) == ("resid_post.3", True, 3, "topk")
    again = SaeEdit.from_tensors(tensors, options)
    assert (again.only_active, again.sae.site, again.options()) == (True, SITE, options)
    assert torch.equal(again(activation(4)), edit(activation(4)))
    assert SaeEdit.from_tensors(tensors, options | {"only_active": False}).only_active is False


def test_amounts_are_one_for_all_a_list_of_one_each_or_a_tensor_of_one_a_row():
    one = sae("topk")
    assert scale_latent(one, [4, 1], 3.0).gain.tolist() == [2, 2]
    assert scale_latent(one, [4, 1], [3.0, 0.0]).gain.tolist() == [2, -1]
    assert scale_latent(one, [4, 1], torch.tensor([3.0, 0.0, 1.0])).gain.tolist() == [[2, 2], [-1, -1], [0, 0]]
    assert scale_latent(one, 4, torch.tensor(3.0)).gain.tolist() == [2]
    assert clamp_latent(one, (4, 1), 3).offset.tolist() == [3, 3]
    assert clamp_latent(one, [4, 1], 3).gain.tolist() == [-1, -1]
    assert scale_latent(one, [4, 1], 3).offset.tolist() == [0, 0]
    for amount in ([1.0], [1.0, 2.0, 3.0], torch.ones(2, 2), [1.0, torch.inf]):
        with pytest.raises(ParameterError, match=r"^factor must be one finite number, a list of one for each of 2 latents, or a tensor of one a row; got "):
            scale_latent(one, [4, 1], amount)
        with pytest.raises(ParameterError, match=r"^value must be one finite number"):
            clamp_latent(one, [4, 1], amount)
    for latent in (-1, 7, [0, 0], [], [2, 7]):
        with pytest.raises(ParameterError, match="expected different latents from 0 to 6, at least one; got "):
            scale_latent(one, latent, 1.0)
    assert scale_latent(one, [0, 6], 1.0).latents.tolist() == [0, 6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_low_rank_edits_of_latents_have_the_dtype_of_the_autoencoder(dtype):
    for edit in (scale_latent(sae(dtype=dtype), [4, 1], 3.0), clamp_latent(sae(dtype=dtype), 4, torch.tensor([1.0, 2.0]))):
        assert {tensor.dtype for tensor in edit.tensors().values()} == {dtype}
