import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    Qwen3MoeConfig,
    Starcoder2Config,
)

from lenssteer.errors import DirectionError, FileError, ModelError, ShapeError
from tests.conftest import BACKENDS
from tests.models.tiny_models import random_model, tiny_tokenizer

D, LAYERS = 64, 3
SHAPE = {"hidden_size": D, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": 400}
MOE = {"num_experts_per_tok": 2, "tie_word_embeddings": False}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "gpt2": lambda: GPT2Config(n_embd=D, n_layer=LAYERS, n_head=4, n_positions=64, vocab_size=400,
                               tie_word_embeddings=False, bos_token_id=0, eos_token_id=1),
    "gpt_neox": lambda: GPTNeoXConfig(**{k: v for k, v in SHAPE.items() if k != "num_key_value_heads"},
                                      tie_word_embeddings=False),
    "starcoder2": lambda: Starcoder2Config(**SHAPE, tie_word_embeddings=False),
    "mixtral": lambda: MixtralConfig(**SHAPE, **MOE, num_local_experts=4),
    "mixtral, square experts": lambda: MixtralConfig(**SHAPE | {"intermediate_size": D}, **MOE, num_local_experts=4),
    "qwen3_moe": lambda: Qwen3MoeConfig(**SHAPE, **MOE, head_dim=16, moe_intermediate_size=32, num_experts=4,
                                        mlp_only_layers=[1]),
    "opt": lambda: OPTConfig(hidden_size=D, ffn_dim=96, num_hidden_layers=LAYERS, num_attention_heads=4,
                             max_position_embeddings=64, vocab_size=400, word_embed_proj_dim=D,
                             tie_word_embeddings=False),
}
TOLERANCE = {kind: 1e-9 if kind in ("gpt2", "gpt_neox", "starcoder2", "opt") else 1e-6 for kind in CONFIGS}
"""RMSNorm rounds to float32 in every dtype, and a value on the edge may round either way."""
TIED = {"llama": lambda: LlamaConfig(**SHAPE, tie_word_embeddings=True),
        "gpt2": lambda: GPT2Config(n_embd=D, n_layer=LAYERS, n_head=4, n_positions=64, vocab_size=400, bos_token_id=0,
                                   eos_token_id=1)}
GEMMA = {**SHAPE, "head_dim": 16, "tie_word_embeddings": False}


def tiny(config):
    """A random model in float64; experts one by one, since the grouped kernel has no float64."""
    model = random_model(config).double()
    if hasattr(config, "num_experts_per_tok"):
        model.set_experts_implementation("eager")
    return model


IDS = torch.randint(4, 400, (3, 11), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def direction():
    return torch.randn(D, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 3


def named_parts(model):
    """Modules whose output a block adds to the stream, by architecture, written down by hand."""
    for name, module in model.named_modules():
        last = name.rsplit(".", 1)[-1]
        if last in ("self_attn", "attn", "attention", "mlp") or (last == "fc2" and "mlp" not in name):
            yield module


@torch.no_grad()
def by_dense_hooks(model, r):
    """Logits with every block input and every part's output multiplied by the dense I - r r^T, by torch hooks alone."""
    unit = r.numpy() / np.linalg.norm(r.numpy())
    dense = torch.from_numpy(np.eye(len(unit)) - np.outer(unit, unit)).to(next(model.parameters()))
    handles = []

    def after(_module, _args, out):
        return (out[0] @ dense, *out[1:]) if isinstance(out, tuple) else out @ dense

    def before(_module, args, kwargs):
        return ((args[0] @ dense, *args[1:]), kwargs) if args else (args, kwargs | {
            "hidden_states": kwargs["hidden_states"] @ dense})

    from lenssteer.models.hf import blocks_of

    for block in blocks_of(model):
        handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
        handles += [part.register_forward_hook(after) for part in named_parts(block)]
    try:
        return model(input_ids=IDS).logits
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_copy_equals_ablation_by_dense_matrices(kind, direction):
    from lenssteer.models.orthogonalise import orthogonalise

    model = tiny(CONFIGS[kind]())
    before = {name: p.clone() for name, p in model.named_parameters()}
    copy = orthogonalise(model, direction)
    with torch.no_grad():
        found, base = copy(input_ids=IDS).logits, model(input_ids=IDS).logits
    expected = by_dense_hooks(model, direction)
    assert (expected - base).abs().max() > 1e-2, "the edit does something"
    torch.testing.assert_close(found, expected, atol=TOLERANCE[kind], rtol=0)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), "the original is untouched"


@pytest.mark.parametrize(("kind", "edited"), [("gpt2", 2 + 4 * LAYERS), ("gpt_neox", 1 + 4 * LAYERS), ("llama", 1 + 4 * LAYERS),
                                              ("mixtral", 1 + 2 * LAYERS), ("opt", 2 + 4 * LAYERS)])
def test_exactly_the_writers_change(kind, edited, direction):
    from lenssteer.models.orthogonalise import orthogonalise

    model = random_model(CONFIGS[kind]())
    copy = orthogonalise(model, direction)
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, copy.get_parameter(name))]
    assert len(changed) == edited, changed


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "mixtral", "qwen3_moe"])
def test_prove_agrees_and_catches_a_copy_that_misses_one_writer(kind, direction):
    from lenssteer.models import wrap
    from lenssteer.models.orthogonalise import orthogonalise
    from lenssteer.models.proof import prove
    from lenssteer.models.writers import places

    model = tiny(CONFIGS[kind]())
    tokenizer = tiny_tokenizer("llama")
    lens, copy = wrap(model, tokenizer), orthogonalise(model, direction)
    proof = prove(lens, wrap(copy, tokenizer), direction)
    assert proof.difference < TOLERANCE[kind]
    assert proof.holds
    assert proof.effect > 1e-2
    found = places({n: tuple(p.shape) for n, p in model.named_parameters()}, model.config)
    name = max(n for n, place in found.items() if place.part in ("embedding", "attention", "mlp"))
    with torch.no_grad():
        copy.get_parameter(name).copy_(model.get_parameter(name))
    assert not prove(lens, wrap(copy, tokenizer), direction).holds


@pytest.mark.parametrize("kind", TIED)
def test_a_tied_unembedding_is_refused_edited_or_untied(kind, direction):
    from lenssteer.models.orthogonalise import orthogonalise

    model = random_model(TIED[kind]()).double()
    with pytest.raises(ModelError, match="untie=True"):
        orthogonalise(model, direction)
    expected = by_dense_hooks(model, direction)
    with torch.no_grad():
        forced, untied = (orthogonalise(model, direction, **{how: True})(input_ids=IDS).logits
                          for how in ("force", "untie"))
    torch.testing.assert_close(untied, expected, atol=TOLERANCE[kind], rtol=0)
    assert (forced - expected).abs().max() > 1e-3
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_in_float64_the_streams_agree_where_rmsnorm_hides_it_from_the_logits(direction):
    """The stream after the last block has not passed the rounding norm yet."""
    from lenssteer.models.orthogonalise import orthogonalise

    model = tiny(CONFIGS["llama"]())
    streams = []
    hook = lambda _module, _args, out: streams.append(out)  # noqa: E731
    copy = orthogonalise(model, direction)
    handles = [model.model.layers[-1].register_forward_hook(hook), copy.model.layers[-1].register_forward_hook(hook)]
    by_dense_hooks(model, direction)
    with torch.no_grad():
        copy(input_ids=IDS)
    for handle in handles:
        handle.remove()
    unit = direction / direction.norm()
    assert 0 < (streams[0] - streams[1]).abs().max() < 1e-6
    assert (streams[1] @ unit).abs().max() < 1e-12
    x = torch.randn(2, D, dtype=torch.float64)
    assert torch.equal(model.model.norm(x), model.model.norm(x.float().double())), "the norm sees float32 only"


def test_norms_after_the_parts_are_refused(direction):
    from lenssteer.models.orthogonalise import orthogonalise

    gemma = random_model(Gemma2Config(**GEMMA)).double()
    with pytest.raises(ModelError, match="norms what attention and MLP write"):
        orthogonalise(gemma, direction)
    forced = orthogonalise(gemma, direction, force=True).get_parameter("model.layers.0.self_attn.o_proj.weight")
    torch.testing.assert_close(direction @ forced, torch.zeros_like(forced[0]), atol=1e-9, rtol=0)
    with pytest.raises(ModelError, match="norms what attention and MLP write"):
        orthogonalise(random_model(OPTConfig(hidden_size=D, ffn_dim=96, num_hidden_layers=1, num_attention_heads=4,
                                             vocab_size=400, word_embed_proj_dim=D, do_layer_norm_before=False,
                                             tie_word_embeddings=False)), direction)


def test_unknown_layouts_are_refused_whole(direction):
    from lenssteer.models.orthogonalise import orthogonalise

    model = random_model(CONFIGS["llama"]())
    model.model.layers[1].adapter = torch.nn.Linear(D, D)
    with pytest.raises(ModelError, match=r"2 parameters.*layers\.1\.adapter"):
        orthogonalise(model, direction)
    model = random_model(CONFIGS["llama"]())
    model.config.num_hidden_layers = LAYERS + 1
    with pytest.raises(ModelError, match="attention of layer 3"):
        orthogonalise(model, direction)
    with pytest.raises(ModelError, match="expected a Hugging Face"):
        orthogonalise(torch.nn.Linear(2, 2), direction)


def test_fused_experts_of_unknown_order_are_refused():
    from lenssteer.models.writers import _fused

    config = LlamaConfig(hidden_size=8, num_attention_heads=1)
    assert _fused((4, 8, 6), config) == ("mlp", -2)
    assert _fused((4, 6, 8), config) == ("mlp", -1)
    assert _fused((4, 8, 8), config) == ("", 0)
    assert _fused((4, 8, 8), MixtralConfig(hidden_size=8, num_attention_heads=1, num_key_value_heads=1)) == ("mlp", -2)


@pytest.mark.parametrize(("bad", "error", "message"), [
    (torch.zeros(D), DirectionError, "length 0"), (torch.full((D,), float("nan")), DirectionError, "finite"),
    (torch.ones(D - 1), ShapeError, f"d_model is {D}")])
def test_bad_directions_are_refused(bad, error, message):
    from lenssteer.models.orthogonalise import orthogonalise

    with pytest.raises(error, match=message):
        orthogonalise(random_model(CONFIGS["llama"]()), bad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_change_equals_the_dense_projection_of_numpy(dtype):
    from lenssteer.edits import ablate
    from lenssteer.models.affine import Affine, Change

    draw = torch.Generator().manual_seed(3)
    weight, r = torch.randn(5, 7, 6, generator=draw, dtype=torch.float64), torch.randn(7, generator=draw)
    unit = r.double().numpy() / np.linalg.norm(r.double().numpy())
    stored = weight.to(dtype)
    expected = np.einsum("ij,ejk->eik", np.eye(7) - np.outer(unit, unit), stored.double().numpy())
    found = Change(-2, (Affine.of(ablate(r.double())),))(stored)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), expected, atol=torch.finfo(dtype).eps * 8)


def test_a_folder_round_trip_on_all_backends(tmp_path, demo_models):
    from lenssteer.models import load_model
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint
    from lenssteer.models.proof import prove

    r = torch.randn(demo_models["hf"].card.d_model, generator=torch.Generator().manual_seed(2))
    proof = orthogonalise_checkpoint("demo", tmp_path / "out", r)
    assert proof.difference < 1e-4
    assert proof.effect > 0.05
    for backend in BACKENDS:
        found = prove(demo_models[backend], load_model(tmp_path / "out", backend=backend), r)
        assert found.difference < 1e-4
        assert found.effect > 0.05
    with pytest.raises(FileError, match="exists"):
        orthogonalise_checkpoint("demo", tmp_path / "out", r)
    assert not list(tmp_path.glob("*.part"))


def saved(kind_config, folder, **options):
    model, tokenizer = random_model(kind_config), tiny_tokenizer("llama")
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return model


def test_shards_and_files_are_kept(tmp_path, direction):
    from lenssteer.models.orthogonalise import orthogonalise, orthogonalise_checkpoint

    model = saved(CONFIGS["llama"](), tmp_path / "in", max_shard_size="100KB")
    (tmp_path / "in" / "pytorch_model.bin").write_bytes(b"old weights")
    orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    names = {path.name for path in (tmp_path / "in").iterdir()} - {"pytorch_model.bin"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert sum(name.endswith(".safetensors") for name in names) > 2
    expected = dict(orthogonalise(model, direction).named_parameters())
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(expected)
    for name, shard in index.items():
        assert torch.equal(load_file(tmp_path / "out" / shard)[name], expected[name])


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_experts_saved_one_by_one(tmp_path, kind, direction):
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint

    saved(CONFIGS[kind](), tmp_path / "in")
    stored = load_file(tmp_path / "in" / "model.safetensors")
    assert any(".experts.3." in name for name in stored), "this layout is the one of the hub"
    proof = orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    assert proof.difference < 1e-3
    assert proof.effect > 0.05


def test_a_tied_folder_is_untied(tmp_path, direction):
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint

    saved(TIED["llama"](), tmp_path / "in", max_shard_size="150KB")
    with pytest.raises(ModelError, match="untie=True"):
        orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    proof = orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction, untie=True)
    assert proof.difference < 1e-3
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    forced = orthogonalise_checkpoint(tmp_path / "in", tmp_path / "forced", direction, force=True)
    assert not forced.holds


def test_folders_that_cannot_be_edited_are_refused(tmp_path, direction):
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint

    with pytest.raises(ModelError, match=r"no config\.json"):
        orthogonalise_checkpoint(tmp_path / "nowhere", tmp_path / "out", direction)
    saved(CONFIGS["llama"](), tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    tensors = load_file(weights)
    quantised = {name: t.to(torch.float8_e4m3fn) if "down_proj.weight" in name else t for name, t in tensors.items()}
    for stored, error, message in ((quantised, ModelError, "F8_E4M3; quantised"),
                                   (tensors | {"model.layers.0.new.weight": torch.ones(2)}, ModelError, "cannot tell")):
        save_file(stored, weights)
        with pytest.raises(error, match=message):
            orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    weights.write_bytes(b"broken")
    with pytest.raises(FileError, match="damaged"):
        orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    weights.unlink()
    with pytest.raises(ModelError, match="save the model as safetensors"):
        orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    (tmp_path / "in" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(FileError, match="names no files of this folder"):
        orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_copy_that_proves_wrong_is_not_written(tmp_path, direction, monkeypatch):
    from lenssteer.models.folding import Folds
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint

    saved(CONFIGS["llama"](), tmp_path / "in")
    monkeypatch.setattr(Folds, "stored", lambda _folds, name, weight: {name: weight})
    with pytest.raises(ModelError, match="nothing was written"):
        orthogonalise_checkpoint(tmp_path / "in", tmp_path / "out", direction)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
