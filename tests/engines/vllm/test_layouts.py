"""Every stream of every architecture: the edited values are those of plain transformers."""

import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")

from lenssteer import edits
from lenssteer.engines.vllm.layouts import install
from lenssteer.errors import ModelError, SiteError
from lenssteer.models import wrap
from lenssteer.site import STREAMS, Site
from lenssteer.steering import Steerer
from tests.engines.vllm.conftest import started
from tests.engines.vllm.test_answers import scored
from tests.models.tiny_models import random_model, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")
WIDE = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
NARROW = {"llama": WIDE, "qwen2": WIDE, "gpt2": {"n_head": 2}}
"""vLLM's attention on a CPU takes no heads of 16."""
PROMPTS = ["How do I bake a loaf of bread at home?", "Explain why the sky is blue.", "Write a story about a dog."]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"])
def test_every_stream(kind, tmp_path):
    model, tokenizer = tiny_model(kind)
    if kind in NARROW:
        model = random_model(type(model.config)(**{**model.config.to_dict(), **NARROW[kind]}), seed=0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    # The fused attention of torch leaves out the soft cap of Gemma 2.
    plain = wrap(AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval(), tokenizer)
    engine = started(tmp_path, enforce_eager=True)
    assert engine.card.fingerprint == plain.card.fingerprint
    wanted = plain.encode(PROMPTS, answers=["The girl and the dog live by the sea."] * len(PROMPTS))
    generator = torch.Generator().manual_seed(0)
    unsteered = [one for one, _ in scored(plain, None, wanted)]
    for site in [Site(layer, stream) for layer in (0, 2, 3) for stream in STREAMS]:
        vector, other = torch.randn(2, plain.card.d_model, generator=generator, dtype=torch.float64)
        for edit in (edits.add(vector / vector.norm(), 3.0), edits.ablate(other)):
            steerer = Steerer({site: edit})
            theirs = scored(plain, steerer, wanted)
            for ours, (log_probs, _) in zip(engine.log_likelihoods(steerer, wanted), theirs, strict=True):
                assert ours.log_probs == pytest.approx(log_probs, abs=1e-3), site
        assert torch.tensor([one for one, _ in theirs]).sub(torch.tensor(unsteered)).abs().max() > 1e-2, site


def test_what_is_not_known_is_refused():
    with pytest.raises(ModelError, match="unknown architecture for vLLM"):
        install(torch.nn.Linear(2, 2), [])
    class LlamaForCausalLM(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Module()
            self.model.layers = torch.nn.ModuleList([torch.nn.Module()])

    with pytest.raises(SiteError, match="layers 0 to 0"):
        install(LlamaForCausalLM(), [Site(1, "resid_post")])
