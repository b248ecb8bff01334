"""Edits that are not low-rank: what the steering layer asks of them, and how they are saved."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lenssteer import edits
from lenssteer.edits.encoded import SaeEdit
from lenssteer.edits.sae import scale_latent
from lenssteer.errors import FileError, ParameterError
from lenssteer.models import Decoding, generate
from lenssteer.prompts import pad
from lenssteer.saes import Sae
from lenssteer.site import Site
from lenssteer.steering import Edit, Steerer

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?"]
SITE = Site(3, "resid_post")


@dataclass(frozen=True, eq=False)
class Squash:
    """h' = h + strength (tanh(h * scale) - h), which no low-rank edit is."""

    scale: Tensor
    strength: float = 1.0
    kind: str = "sae"
    rows: None = None

    @property
    def d_model(self):
        return len(self.scale)

    def tensors(self):
        return {"scale": self.scale}

    def options(self):
        return {"strength": self.strength}

    @classmethod
    def from_tensors(cls, tensors, options):
        return cls(**tensors, **options)

    def to(self, device=None, dtype=None):
        return Squash(self.scale.to(device=device, dtype=dtype), self.strength)

    def take(self, index):
        raise AssertionError("an edit without rows is never asked for some")

    def scaled(self, strength):
        return Squash(self.scale, self.strength * strength)

    def __call__(self, h):
        return h + (self.strength * (torch.tanh(h * self.scale) - h)).to(h.dtype)


@pytest.fixture
def squash(demo):
    return Squash(torch.rand(demo.card.d_model, generator=torch.Generator().manual_seed(0)))


def test_any_edit_steers(demo, squash):
    assert isinstance(squash, Edit)
    assert isinstance(edits.add(torch.ones(3)), Edit)
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    handle = demo.backend.model.model.layers[3].register_forward_hook(lambda m, a, out: squash(out))
    by_hand = demo.logits(tokens)
    handle.remove()
    with Steerer({SITE: squash}).on(demo) as receipt:
        torch.testing.assert_close(demo.logits(tokens)[tokens.mask], by_hand[tokens.mask], atol=1e-5, rtol=0)
    site = receipt.sites[SITE]
    assert (site.edited, site.share) == (int(tokens.mask.sum()), 1.0)
    assert site.direction_degrees_before is None


def test_edits_of_two_kinds_are_saved_together(tmp_path):
    draw = torch.Generator().manual_seed(0)
    arrays = {"W_enc": torch.randn(8, 5, generator=draw), "W_dec": torch.randn(5, 8, generator=draw),
              "b_dec": torch.randn(8, generator=draw), "b_enc": torch.randn(5, generator=draw)}
    latent = scale_latent(Sae(SITE, "topk", **arrays, k=2), [1, 3], [0.5, 2.0])
    loaded = Steerer.load(Steerer({SITE: latent, Site(4, "resid_post"): edits.add(arrays["b_dec"])}).save(tmp_path / "s"))
    h = torch.randn(3, 8, generator=draw)
    assert isinstance(loaded.edits[SITE], SaeEdit)
    assert torch.equal(loaded.edits[SITE](h), latent(h))
    assert torch.equal(loaded.edits[Site(4, "resid_post")].write[0], arrays["b_dec"])


def test_the_first_and_the_last_latent_may_be_edited(tmp_path):
    sae = Sae(SITE, "topk", torch.eye(8, 5), torch.eye(5, 8), torch.zeros(8), b_enc=torch.zeros(5), k=2)
    edit = SaeEdit(sae, torch.tensor([0, 4]), torch.ones(2), torch.zeros(2))
    assert Steerer.load(Steerer({SITE: edit}).save(tmp_path / "s")).edits[SITE].latents.tolist() == [0, 4]


@pytest.mark.parametrize("latents", [[5], [-1], [2**40]])
def test_latents_that_an_autoencoder_does_not_have_are_refused(tmp_path, latents):
    sae = Sae(SITE, "topk", torch.eye(8, 5), torch.eye(5, 8), torch.zeros(8), b_enc=torch.zeros(5), k=2)
    one = torch.ones(1)
    folder = Steerer({SITE: SaeEdit(sae, torch.tensor(latents), one, one)}).save(tmp_path / "s")
    with pytest.raises(FileError, match="latents that its autoencoder of 5 does not have"):
        Steerer.load(folder)


def test_an_edit_without_a_kind_cannot_be_saved(squash, tmp_path):
    with pytest.raises(FileError, match="does not say how it is saved"):
        Steerer({SITE: Squash(squash.scale, kind=None)}).save(tmp_path / "s")


def test_an_unknown_kind_cannot_be_loaded(squash, tmp_path):
    folder = Steerer({SITE: Squash(squash.scale, kind="transcoder")}).save(tmp_path / "s")
    with pytest.raises(FileError, match="transcoder"):
        Steerer.load(folder)


def test_scaled_multiplies_every_change(demo, squash):
    """Oracle: edits made with the product of the strengths; provenance keeps it."""
    v = squash.scale * 4
    steerer = Steerer({SITE: edits.add(v), Site(4, "resid_post"): squash}, provenance={"method": "x"}).scaled(3.0).scaled(0.5)
    expected = Steerer({SITE: edits.add(1.5 * v), Site(4, "resid_post"): Squash(squash.scale, 1.5)})
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    with expected.on(demo):
        logits = demo.logits(tokens)
    with steerer.on(demo):
        torch.testing.assert_close(demo.logits(tokens)[tokens.mask], logits[tokens.mask], atol=1e-4, rtol=0)
    assert steerer.provenance == {"method": "x", "strength": 1.5}


def test_a_tensor_scales_each_row_by_its_own(demo, squash):
    steerer = Steerer({SITE: edits.add(squash.scale * 10)})
    rows = steerer.scaled(torch.tensor([0.0, 1.0, -1.0]))
    with rows.on(demo):
        together = generate(demo, PROMPTS, Decoding(8))
    alone = []
    for prompt, strength in zip(PROMPTS, (0.0, 1.0, -1.0), strict=True):
        with steerer.scaled(strength).on(demo):
            alone += generate(demo, [prompt], Decoding(8))
    assert together == alone
    assert rows.provenance["strength"] == [0.0, 1.0, -1.0]
    with pytest.raises(ParameterError):
        steerer.scaled(float("nan"))
