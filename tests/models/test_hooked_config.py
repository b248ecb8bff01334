"""HookedTransformer built from a loaded model computes what Hugging Face computes, or is refused."""

from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    SiglipVisionConfig,
)

from lenssteer.errors import ModelError
from tests.conftest import HAS_HOOKED, shared
from tests.models.tiny_models import KINDS, WINDOW, random_model, save_tiny, tiny_model

if not HAS_HOOKED:
    pytest.skip("TransformerLens 4 has no HookedTransformer", allow_module_level=True)

from lenssteer.models.hooked_config import hooked_config, to_hooked

TEXTS = ("Explain why the sky is blue: the light of the sun.", "Tell me", "How do I pick the lock of a door?")
TOLERANCE = 1e-4
FLOAT32 = {"dtype": torch.float32, "device": "cpu"}
SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GEMMA3 = {**SMALL, "head_dim": 8, "sliding_window": WINDOW, "sliding_window_pattern": 2}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
THIRTY_IDS = torch.arange(30).mul(7).remainder(90).reshape(1, 30)


def left_padded(tokenizer, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded left."""
    encoded = tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left")
    return encoded.input_ids, encoded.attention_mask


def positions(mask: Tensor) -> Tensor:
    """Position ids that skip padding; without them GPT-2 counts the padding in."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def blocks_of(hf_model: PreTrainedModel) -> torch.nn.ModuleList:
    return hf_model.transformer.h if hasattr(hf_model, "transformer") else hf_model.model.layers


@torch.no_grad()
def logits_and_residuals(hf_model: PreTrainedModel, ids: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and block outputs of Hugging Face, by torch hooks on its decoder layers."""
    kept: list[Tensor] = []

    def keep(_module, _args, output) -> None:
        kept.append((output[0] if isinstance(output, tuple) else output).clone())

    with ExitStack() as stack:
        for block in blocks_of(hf_model):
            stack.callback(block.register_forward_hook(keep).remove)
        logits = hf_model(ids, attention_mask=mask, position_ids=positions(mask)).logits
    return logits, kept


@torch.no_grad()
def error(hf_model: PreTrainedModel, ids: Tensor) -> float:
    model = to_hooked(hf_model, None, **FLOAT32)
    return (model(ids) - hf_model(ids).logits).abs().max().item()


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def pair(kind: str):
    hf_model, tokenizer = tiny_model(kind)
    return hf_model, tokenizer, to_hooked(hf_model, tokenizer, **FLOAT32)


@torch.no_grad()
def test_logits_of_one_text(pair):
    hf_model, tokenizer, model = pair
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    assert ids.shape[1] > 2 * WINDOW
    torch.testing.assert_close(model(ids), hf_model(ids).logits, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_logits_and_residuals_of_a_left_padded_batch(pair):
    hf_model, tokenizer, model = pair
    ids, mask = left_padded(tokenizer, TEXTS)
    logits, residuals = logits_and_residuals(hf_model, ids, mask)
    ours, cache = model.run_with_cache(ids, attention_mask=mask)
    real = mask.bool()
    torch.testing.assert_close(ours[real], logits[real], atol=TOLERANCE, rtol=0)
    for layer, residual in enumerate(residuals):
        resid_post = cache["resid_post", layer]
        torch.testing.assert_close(resid_post[real], residual[real], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_cached_decoding_of_a_ragged_batch(pair):
    """Greedy tokens equal Hugging Face's, past the sliding window, with the pad id as a real token too."""
    from transformer_lens import TransformerLensKeyValueCache

    hf_model, tokenizer, model = pair
    hf_model.generation_config.eos_token_id = None
    ids, mask = left_padded(tokenizer, TEXTS)
    pad = tokenizer.pad_token_id
    ids[0, 0] = ids[1, -2] = ids[2, -1] = pad
    greedy = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": pad}
    expected = hf_model.generate(ids, attention_mask=mask, **greedy)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(ids))
    chunk, seen, new = ids, mask, []
    for _ in range(20):
        chosen = model(chunk, attention_mask=seen, past_kv_cache=cache)[:, -1].argmax(-1, keepdim=True)
        new.append(chosen)
        chunk, seen = chosen, torch.ones_like(chosen)
    assert torch.cat(new, -1).tolist() == expected[:, ids.shape[1] :].tolist()


def test_nothing_given_is_changed_or_shared(kind):
    hf_model, tokenizer = tiny_model(kind)
    weights = {name: weight.clone() for name, weight in hf_model.state_dict().items()}
    config, settings = hf_model.config.to_dict(), deepcopy(tokenizer.init_kwargs)
    tokenizer.padding_side = "left"
    model = to_hooked(hf_model, tokenizer, **FLOAT32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert hf_model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in hf_model.state_dict().items())
    assert hf_model.config.to_dict() == config
    assert tokenizer.padding_side == "left"
    assert tokenizer.init_kwargs == settings


def test_text_functions_prepend_no_bos(pair):
    _, tokenizer, model = pair
    ids = tokenizer("the dog", add_special_tokens=False).input_ids
    assert model.to_tokens("the dog").tolist() == [ids]
    assert model.to_string(model.to_tokens("the dog")[0]) == "the dog"


def test_weights_are_raw(pair):
    _, _, model = pair
    assert model.cfg.normalization_type in {"LN", "RMS"}
    assert not model.training


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("folder", ["my-llama-3-8b", "gemma-2-2b-it", "gpt2-medium"])
@torch.no_grad()
def test_folder_names_mean_nothing(kind, folder, tmp_path):
    path = save_tiny(kind, tmp_path / folder)
    hf_model = AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = to_hooked(hf_model, tokenizer, **FLOAT32)
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    torch.testing.assert_close(model(ids), hf_model(ids).logits, atol=TOLERANCE, rtol=0)
    assert "".join(model.to_str_tokens(TEXTS[0])) == TEXTS[0]


@torch.no_grad()
def test_a_leading_pad_id_is_a_token_like_any_other():
    hf_model, tokenizer = tiny_model("gpt2")
    tokenizer.padding_side = "left"
    model = to_hooked(hf_model, tokenizer, **FLOAT32)
    ids = torch.tensor([[tokenizer.pad_token_id, 50, 60, tokenizer.pad_token_id]])
    torch.testing.assert_close(model(ids), hf_model(ids).logits, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("config", [LlamaConfig(**SMALL), Gemma3TextConfig(**GEMMA3)], ids=["llama", "gemma"])
@torch.no_grad()
def test_dtype_is_the_callers(config):
    """A bfloat16 checkpoint copied to float32 equals the same checkpoint run in float32."""
    hf_model = random_model(config)
    for weight in hf_model.parameters():
        weight.data = weight.data.bfloat16()
    in_bfloat16 = to_hooked(hf_model, None, dtype=torch.bfloat16, device="cpu")
    in_float32 = to_hooked(hf_model, None, **FLOAT32)
    for weight in hf_model.parameters():
        weight.data = weight.data.float()
    expected = hf_model(THIRTY_IDS).logits
    torch.testing.assert_close(in_float32(THIRTY_IDS), expected, atol=TOLERANCE, rtol=0)
    assert in_bfloat16(THIRTY_IDS).dtype == torch.bfloat16


def gemma3_with_vision(**text) -> Gemma3Config:
    vision = SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28
    )
    return Gemma3Config(
        text_config=Gemma3TextConfig(**GEMMA3, **text).to_dict(),
        vision_config=vision.to_dict(),
        image_token_index=89,
        boi_token_index=88,
        eoi_token_index=87,
    )


VARIANTS = {
    "llama, linear positions": LlamaConfig(**SMALL, rope_parameters=dict(LINEAR)),
    "llama, one head per key": LlamaConfig(**{**SMALL, "num_key_value_heads": 4}),
    "llama, gelu": LlamaConfig(**SMALL, hidden_act="gelu"),
    "qwen2, sliding layers": Qwen2Config(
        **SMALL,
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=1,
        rope_parameters=dict(LLAMA3),
    ),
    "gemma2, no caps": Gemma2Config(**SMALL, attn_logit_softcapping=None, final_logit_softcapping=None),
    "gemma3, capped": Gemma3TextConfig(**GEMMA3, final_logit_softcapping=1.0),
    "gemma3, with vision": gemma3_with_vision(),
    "gpt2, other scales": GPT2Config(
        vocab_size=90,
        n_embd=32,
        n_layer=2,
        n_head=4,
        scale_attn_by_inverse_layer_idx=True,
        scale_attn_weights=False,
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_an_architecture(name):
    assert error(random_model(VARIANTS[name]), THIRTY_IDS) < TOLERANCE


UNSUPPORTED = {
    "mistral": MistralConfig(**SMALL),
    "opt": OPTConfig(vocab_size=90),
    "gpt_neox": GPTNeoXConfig(vocab_size=90),
    "yarn": LlamaConfig(**SMALL, rope_parameters=dict(YARN)),
    "mlp_bias": LlamaConfig(**SMALL, mlp_bias=True),
    "attention_bias": LlamaConfig(**SMALL, attention_bias=True),
    "mish": LlamaConfig(**SMALL, hidden_act="mish"),
    "add_cross_attention": GPT2Config(add_cross_attention=True),
    "use_bidirectional_attention": Gemma3TextConfig(**GEMMA3, use_bidirectional_attention=True),
    "attn_logit_softcapping": Gemma3TextConfig(**GEMMA3, attn_logit_softcapping=50.0),
    "final_logit_softcapping": gemma3_with_vision(final_logit_softcapping=30.0),
    "linear": Gemma2Config(**SMALL, rope_parameters=dict(LINEAR)),
    "llama3": Gemma3TextConfig(**GEMMA3, rope_parameters={"full_attention": dict(LLAMA3)}),
    "quantization_config": LlamaConfig(**SMALL, quantization_config={"quant_method": "awq"}),
}
QUANTISED = gemma3_with_vision()
QUANTISED.quantization_config = {"quant_method": "awq"}


@pytest.mark.parametrize(("name", "config"), [*UNSUPPORTED.items(), ("quantization_config", QUANTISED)])
def test_what_cannot_be_expressed_is_refused(name: str, config: PreTrainedConfig):
    with pytest.raises(ModelError, match=rf'{name}.*supported are llama, .*backend="bridge"'):
        hooked_config(config, **FLOAT32)


def test_another_head_is_refused():
    with pytest.raises(ModelError, match=r"LlamaForSequenceClassification.*LlamaForCausalLM"):
        to_hooked(LlamaForSequenceClassification(LlamaConfig(**SMALL)), None, **FLOAT32)


def test_loaded_adapters_are_refused():
    hf_model, _ = tiny_model("llama")
    hf_model._hf_peft_config_loaded = True
    with pytest.raises(ModelError, match="merge"):
        to_hooked(hf_model, None, **FLOAT32)


def test_context_is_the_models_own_and_costs_nothing():
    config = LlamaConfig(**SMALL, max_position_embeddings=131072)
    model = to_hooked(random_model(config), None, **FLOAT32)
    assert model.cfg.n_ctx == 131072
    assert sum(buffer.numel() for buffer in model.buffers()) < 200_000


@pytest.mark.real
@torch.no_grad()
def test_a_real_model():
    folder = shared("models/stories260k")
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = to_hooked(hf_model, tokenizer, **FLOAT32)
    ids = tokenizer("Once upon a time, there was a little girl named Lily.", return_tensors="pt").input_ids
    story = hf_model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
    ours = model.generate(ids, max_new_tokens=40, do_sample=False, stop_at_eos=False, verbose=False)
    assert tokenizer.decode(ours[0]) == tokenizer.decode(story[0])
    assert (model(story) - hf_model(story).logits).abs().max() <= 5e-4
