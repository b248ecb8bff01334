"""Models whose layers are apart, or wait on disk: edits reach them all the same."""

import pytest
import torch

from lenssteer import edits
from lenssteer.capture import capture_moments
from lenssteer.errors import ModelError
from lenssteer.models import Decoding, generate, load_model
from lenssteer.models.placing import Weights, input_device
from lenssteer.prompts import ContrastSet
from lenssteer.site import Site
from lenssteer.steering import Steerer

PROMPTS = ["how do i paint a red cake ?", "tell me how to hide a bomb .", "kite"]
ANSWERS = Decoding(max_new_tokens=10)
SPLIT = {"model.embed_tokens": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu",
         **{f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(8)}}


@pytest.fixture(scope="module")
def split():
    return load_model("demo", backend="hf", device_map=SPLIT)


def steerer(lens):
    vector = torch.randn(lens.card.d_model, generator=torch.Generator().manual_seed(0))
    return Steerer({Site(3, "resid_post"): edits.add(vector, 4.0), Site(5, "resid_mid"): edits.add(vector, 2.0),
                    Site(6, "ln1_out"): edits.ablate(vector)})


def test_layers_on_disk_are_steered_as_others_are(demo, split):
    """Self-check included: it ran when the model was loaded."""
    assert any(parameter.device.type == "meta" for parameter in split.backend.blocks[1].parameters())
    found = []
    for lens in (demo, split):
        with steerer(lens).on(lens) as receipt:
            found.append((generate(lens, PROMPTS * 2, ANSWERS), receipt.edited))
    assert found[0] == found[1]
    assert found[0][0] != generate(demo, PROMPTS * 2, ANSWERS)


def test_weights_on_disk_have_the_fingerprint_of_the_checkpoint(demo, split):
    assert split.card == demo.card
    weights, there = Weights(split.backend.model), dict(demo.backend.model.named_parameters())
    assert len(weights) == len(there)
    for name in ("model.layers.3.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight", "model.embed_tokens.weight"):
        assert torch.equal(weights[name], there[name])


def test_inputs_go_where_the_embedding_runs(demo, split):
    assert split.backend.model.get_input_embeddings().weight.device.type == "meta"
    assert input_device(split.backend.model) == split.device == torch.device("cpu")
    assert input_device(demo.backend.model) == torch.device("cpu")


def test_captures_of_layers_on_disk_are_those_of_others(demo, split):
    contrast, sites = ContrastSet(tuple(PROMPTS[:2]), tuple(PROMPTS[2:])), demo.sites("resid_mid")
    for at in ("last", "mean(prompt)"):
        mine, theirs = (capture_moments(lens, contrast, sites, at).positive.mean for lens in (split, demo))
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_auto_spreads_over_what_there_is(demo):
    for options in ({"device_map": "auto"}, {"device": "auto"}):
        lens = load_model("demo", backend="bridge", **options)
        assert generate(lens, PROMPTS, ANSWERS) == generate(demo, PROMPTS, ANSWERS)
        assert lens.card.fingerprint == demo.card.fingerprint


def test_what_cannot_be_spread_is_refused(demo):
    with pytest.raises(ModelError, match="HookedTransformer, which lives on one device"):
        load_model("demo", backend="hooked", device="auto")
    with pytest.raises(ModelError, match=r"TransformerBridge cannot wrap .* disk .* Use backend 'hf'"):
        load_model("demo", backend="bridge", device_map=SPLIT)
    with torch.device("meta"):
        empty = type(demo.backend.model)(demo.backend.model.config)
    with pytest.raises(ModelError, match="nothing says where its values are"):
        Weights(empty)["model.embed_tokens.weight"]
