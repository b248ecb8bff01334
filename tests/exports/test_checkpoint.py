"""Steering in weights: loaded by transformers alone, the copy computes what hooks of plain torch compute."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
    Starcoder2Config,
)

from lenssteer.errors import FileError, MismatchError, ModelError, ShapeError, SteeringError
from tests.models.tiny_models import random_model, tiny_tokenizer

D, LAYERS = 64, 3
SHAPE = {"hidden_size": D, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": 400, "tie_word_embeddings": False}
GPT2 = {"n_embd": D, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, "vocab_size": 400, "bos_token_id": 0,
        "eos_token_id": 1}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "llama with biases": lambda: LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "gpt2": lambda: GPT2Config(**GPT2, tie_word_embeddings=False),
    "gpt_neox": lambda: GPTNeoXConfig(**{k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}),
    "starcoder2": lambda: Starcoder2Config(**SHAPE),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=16),
    "tied llama": lambda: LlamaConfig(**SHAPE | {"tie_word_embeddings": True}),
    "tied gpt2": lambda: GPT2Config(**GPT2),
}
IDS = torch.randint(4, 400, (3, 11), generator=torch.Generator().manual_seed(1))
TOLERANCE = 5e-5


def vector(seed):
    return torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis():
    return torch.linalg.qr(torch.stack([vector(8), vector(9)]).T).Q.T.contiguous()


@pytest.fixture
def saved(tmp_path):
    """Save a random model of a kind, and give its folder."""
    def save(kind_or_config, **options):
        config = CONFIGS[kind_or_config]() if isinstance(kind_or_config, str) else kind_or_config
        random_model(config).save_pretrained(tmp_path / "in", **options)
        tiny_tokenizer("llama").save_pretrained(tmp_path / "in")
        return tmp_path / "in"
    return save


def steerer(edits, **options):
    from lenssteer.site import Site
    from lenssteer.steering import Steerer

    return Steerer({Site.parse(site): edit for site, edit in edits.items()}, **options)


def module(model, site):
    """Where transformers computes a stream, by hand."""
    from lenssteer.models.hf import blocks_of

    stream, layer = site.split(".")
    block = blocks_of(model)[int(layer)]
    names = {"resid_pre": "", "resid_post": "", "attn_out": "self_attn attn attention", "mlp_out": "mlp",
             "ln1_out": "input_layernorm ln_1", "ln2_out": "post_attention_layernorm ln_2",
             "resid_mid": "post_attention_layernorm ln_2"}[stream].split()
    return next((getattr(block, name) for name in names if hasattr(block, name)), block)


@torch.no_grad()
def by_hooks(folder, maps):
    """Logits with h -> M h + k at sites, M dense, by torch hooks alone."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    base = model(input_ids=IDS).logits
    for site, (matrix, constant) in maps.items():
        apply = affine(matrix.float(), constant.float())
        if site.startswith("resid_mid"):
            module(model, site).register_forward_pre_hook(lambda _m, args, f=apply: _in_place(args[0], f))
        elif site.startswith("resid_pre"):
            module(model, site).register_forward_pre_hook(
                lambda _m, args, kwargs, f=apply: ((f(args[0]), *args[1:]), kwargs) if args else (
                    args, kwargs | {"hidden_states": f(kwargs["hidden_states"])}), with_kwargs=True)
        else:
            module(model, site).register_forward_hook(
                lambda _m, _a, out, f=apply: (f(out[0]), *out[1:]) if isinstance(out, tuple) else f(out))
    return base, model(input_ids=IDS).logits


def affine(matrix, constant):
    return lambda h: h @ matrix.T + constant


def _in_place(tensor, f):
    tensor.copy_(f(tensor))


def agrees(folder, target, maps):
    base, expected = by_hooks(folder, maps)
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(target).eval()(input_ids=IDS).logits
    assert (expected - base).abs().max() > 0.05, "the edit does something"
    torch.testing.assert_close(found, expected, atol=TOLERANCE * base.abs().max().item(), rtol=0)


EYE, ZERO = torch.eye(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "sites"), [
    ("llama", "resid_post.1 resid_pre.1 resid_pre.0 resid_mid.2 attn_out.1 mlp_out.0 resid_post.2"),
    ("llama with biases", "resid_post.0 resid_mid.1"), ("gpt2", "resid_post.1 resid_pre.0 attn_out.2"),
    ("gpt_neox", "resid_post.1 attn_out.0"), ("starcoder2", "resid_pre.2 resid_mid.0"), ("qwen3", "attn_out.1 resid_mid.0"),
    ("tied llama", "resid_post.1"), ("tied gpt2", "mlp_out.1")])
def test_additions_become_biases(kind, sites, saved, tmp_path):
    from lenssteer.edits import add
    from lenssteer.exports import export_checkpoint

    folder = saved(kind)
    vectors = {site: vector(i) for i, site in enumerate(sites.split())}
    proof = export_checkpoint(steerer({site: add(v, 0.5) for site, v in vectors.items()}), folder, tmp_path / "out")
    assert proof.holds
    assert proof.effect > 0.05
    agrees(folder, tmp_path / "out", {site: (EYE, v * 0.5) for site, v in vectors.items()})


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "starcoder2", "qwen3", "tied llama"])
def test_rotations_of_norm_outputs_become_weights(kind, saved, tmp_path):
    """Selective Steering without a hook, against the dense matrix of the paper."""
    from lenssteer.edits import rotate_by
    from lenssteer.exports import export_checkpoint

    folder, b = saved(kind), basis()
    turn = np.deg2rad(130)
    rotation = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    dense = EYE - b.T @ b + b.T @ rotation @ b
    sites = ["ln1_out.0", "ln2_out.0", "ln2_out.1", "ln1_out.2"]
    export_checkpoint(steerer(dict.fromkeys(sites, rotate_by(b, degrees=130))), folder, tmp_path / "out", proof=False)
    agrees(folder, tmp_path / "out", dict.fromkeys(sites, (dense, ZERO)))


def test_affine_edits_of_what_parts_write(saved, tmp_path):
    """Clamping a component of attn_out and mlp_out: a linear map and a constant, then a constant on the stream."""
    from lenssteer.edits import add, clamp
    from lenssteer.exports import export_checkpoint

    folder, v = saved("llama"), vector(4)
    unit = v / v.norm()
    edits = {"attn_out.1": clamp(v, 0.7), "mlp_out.1": clamp(v, -0.4), "resid_post.1": add(vector(5), 0.3)}
    export_checkpoint(steerer(edits), folder, tmp_path / "out")
    project = EYE - torch.outer(unit, unit)
    agrees(folder, tmp_path / "out", {"attn_out.1": (project, 0.7 * unit), "mlp_out.1": (project, -0.4 * unit),
                                      "resid_post.1": (EYE, vector(5) * 0.3)})


def test_ablation_is_what_orthogonalise_writes(saved, tmp_path):
    from lenssteer.edits import ablate
    from lenssteer.exports import export_checkpoint
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint
    from lenssteer.site import sites_of

    folder, edit = saved("llama", max_shard_size="100KB"), ablate(vector(2))
    every = {str(site): edit for site in sites_of("every_write", LAYERS)}
    export_checkpoint(steerer(every), folder, tmp_path / "out")
    orthogonalise_checkpoint(folder, tmp_path / "same", vector(2))
    shards = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 2
    for shard in shards:
        with safe_open(tmp_path / "out" / shard, "pt") as one, safe_open(tmp_path / "same" / shard, "pt") as other:
            assert all(torch.equal(one.get_tensor(name), other.get_tensor(name)) for name in one.keys())  # noqa: SIM118
    more = every | {"resid_mid.2": edit, "resid_post.1": edit}
    export_checkpoint(steerer(more), folder, tmp_path / "more", proof=False)
    unit = vector(2) / vector(2).norm()
    agrees(folder, tmp_path / "more", dict.fromkeys(more, (EYE - torch.outer(unit, unit), ZERO)))
    for lacking in ("resid_pre.0", "attn_out.0"):
        with pytest.raises(SteeringError, match="no single weight writes"):
            export_checkpoint(steerer({site: e for site, e in every.items() if site != lacking}), folder, tmp_path / "x")


def test_a_switch_adds_the_other_biases_as_zeros_and_the_index_names_them(saved, tmp_path):
    from lenssteer.edits import add
    from lenssteer.exports import export_checkpoint

    folder = saved("llama", max_shard_size="100KB")
    export_checkpoint(steerer({"resid_post.1": add(vector(3))}), folder, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["mlp_bias"], config["attention_bias"]) == (True, False)
    before, index = (json.loads((path / "model.safetensors.index.json").read_text()) for path in (folder, tmp_path / "out"))
    new = set(index["weight_map"]) - set(before["weight_map"])
    assert len(new) == 3 * LAYERS
    assert index["metadata"]["total_size"] - before["metadata"]["total_size"] == 4 * LAYERS * (96 + 96 + D)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    values = dict(model.named_parameters())
    assert {name for name in new if values[name].any()} == {"model.layers.1.mlp.down_proj.bias"}
    torch.testing.assert_close(values["model.layers.1.mlp.down_proj.bias"].data, vector(3).float())


def test_a_constant_at_the_embedding_of_a_tied_model_needs_an_unembedding_of_its_own(saved, tmp_path):
    from lenssteer.edits import add
    from lenssteer.exports import export_checkpoint

    folder, edits = saved("tied llama"), {"resid_pre.0": add(vector(1), 0.2)}
    with pytest.raises(ModelError, match="--untie"):
        export_checkpoint(steerer(edits), folder, tmp_path / "out")
    export_checkpoint(steerer(edits), folder, tmp_path / "out", untie=True)
    agrees(folder, tmp_path / "out", {"resid_pre.0": (EYE, vector(1) * 0.2)})


NO_BIAS = [("qwen2", lambda: Qwen2Config(**SHAPE), "resid_post.1", "has none"),
           ("mistral", lambda: MistralConfig(**SHAPE), "attn_out.1", "has none"),
           ("qwen3", lambda: Qwen3Config(**SHAPE, head_dim=16), "mlp_out.1", "has none"),
           ("mixtral", lambda: MixtralConfig(**SHAPE, num_experts_per_tok=2, num_local_experts=2), "mlp_out.1", "2 outputs"),
           ("granite", lambda: GraniteConfig(**SHAPE, attention_bias=True, residual_multiplier=0.5), "resid_mid.1", "scale"),
           ("gemma2", lambda: Gemma2Config(**SHAPE, head_dim=16), "resid_post.1", "norms what"),
           ("parallel", lambda: CONFIGS["gpt_neox"](), "resid_mid.1", "scale")]


@pytest.mark.parametrize(("kind", "config", "site", "message"), NO_BIAS, ids=[one[0] for one in NO_BIAS])
def test_models_without_the_place_are_refused(kind, config, site, message, saved, tmp_path):
    from lenssteer.edits import add
    from lenssteer.exports import export_checkpoint

    with pytest.raises(ModelError, match=message):
        export_checkpoint(steerer({site: add(vector(1))}), saved(config()), tmp_path / "out", proof=False)
    assert not (tmp_path / "out").exists()


def refused():
    from lenssteer.edits import ablate, add, clamp, gated, rotate_by, rotate_to
    from lenssteer.edits.edit import LowRankEdit

    plain, v = {"resid_post.1": add(vector(1))}, vector(1)
    rows = LowRankEdit.stack([add(v), add(v, 2.0)])
    return {
        "where='generated'": (plain, {"where": "generated"}), "schedule": (plain, {"schedule": "linear(3)"}),
        "rows differently": ({"resid_post.1": rows}, {}), "no single weight": ({"resid_post.1": ablate(v)}, {}),
        "no single weight writes": ({"resid_mid.1": rotate_by(basis(), degrees=40)}, {}),
        "length of the in-plane": ({"mlp_out.1": rotate_to(basis(), degrees=40)}, {}),
        "norm rule": ({"mlp_out.1": add(v, norm="preserve")}, {}),
        "without a constant": ({"ln1_out.1": clamp(v, 1.0)}, {}),
        "layer this model has not": ({"mlp_out.7": add(v)}, {}),
        "has a gate": ({"mlp_out.1": gated(add(v), v, 0.5)}, {}),
    }


@pytest.mark.parametrize("message", ["where='generated'", "schedule", "rows differently", "no single weight",
                                     "no single weight writes", "length of the in-plane", "norm rule", "without a constant",
                                     "layer this model has not", "has a gate"])
def test_what_no_weights_equal_is_refused(message, saved, tmp_path):
    from lenssteer.exports import export_checkpoint

    edits, options = refused()[message]
    made = steerer(edits)
    made = made.at(options["where"]) if "where" in options else made
    made = made.over(options["schedule"]) if "schedule" in options else made
    with pytest.raises(SteeringError, match=message):
        export_checkpoint(made, saved("llama"), tmp_path / "out", proof=False)


def test_other_models_and_folders_are_refused(saved, tmp_path, demo):
    from lenssteer.edits import add
    from lenssteer.exports import export_checkpoint

    folder = saved("llama")
    made = steerer({"resid_post.1": add(vector(1))})
    with pytest.raises(MismatchError, match="8 layers of width 128"):
        export_checkpoint(replace(made, card=demo.card), folder, tmp_path / "out", proof=False)
    with pytest.raises(MismatchError, match="other weights"):
        export_checkpoint(replace(made, card=replace(demo.card, d_model=D, n_layers=LAYERS)), folder, tmp_path / "out")
    with pytest.raises(ShapeError, match="d_model 65"):
        export_checkpoint(steerer({"resid_post.1": add(torch.ones(65))}), folder, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileError, match="exists"):
        export_checkpoint(made, folder, tmp_path / "out")


MEMORY = """
import sys
from pathlib import Path
import torch
from transformers import AutoConfig
from lenssteer.models.baking import bake
from lenssteer.models.proof import ablation

def kib(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))

AutoConfig.from_pretrained(sys.argv[1])
torch.ones(256, 256) @ torch.ones(256, 256)
bake(sys.argv[3], sys.argv[2] + "-before", ablation(torch.ones(256), 1), proof=False)  # what is loaded at first use
before = kib("VmRSS")
bake(sys.argv[1], sys.argv[2], ablation(torch.ones(256), 12), proof=False)
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_is_that_of_two_shards(tmp_path):
    config = LlamaConfig(**SHAPE | {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 12, "vocab_size": 64})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "in", max_shard_size="10MB")
    sizes = [path.stat().st_size / 1024 for path in (tmp_path / "in").glob("*.safetensors")]
    small = LlamaConfig(**SHAPE | {"hidden_size": 256, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64})
    AutoModelForCausalLM.from_config(small).save_pretrained(tmp_path / "small")
    found = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / "in", tmp_path / "out", tmp_path / "small"], capture_output=True,
                           text=True, check=True)
    assert len(sizes) >= 6
    assert int(found.stdout) < 2 * max(sizes) < 0.5 * sum(sizes)
