"""Vectors and planes of other tools: written as they write them, read, and compared with what they add."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lenssteer.errors import DirectionError, FileError, MismatchError, ParameterError, SiteError

D = 128
"""Width of the demo model."""


def vector(seed):
    return torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(seed):
    """Two directions that are not orthonormal."""
    return vector(seed) * 3, vector(seed + 1) * 2 + vector(seed)


def gram_schmidt(first, second):
    b1 = first / first.norm()
    rest = second - (second @ b1) * b1
    return torch.stack([b1, rest / rest.norm()])


def rotated(h, first, second, degrees):
    """Selective Steering by the dense matrix of the paper, in NumPy."""
    b = gram_schmidt(first, second).numpy()
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return h.numpy() @ (np.eye(D) - b.T @ b + b.T @ rotation @ b).T


@pytest.fixture
def load(demo):
    from lenssteer.exports import import_steerer

    return lambda path, **options: import_steerer(path, demo, **options)


H = torch.randn(5, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def added(steerer):
    return {str(site): edit(H) - H for site, edit in steerer.edits.items()}


def close(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], torch.as_tensor(value).expand_as(H).double(), atol=1e-6, rtol=1e-6)


def test_a_control_vector_goes_round(tmp_path, load, demo):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    from lenssteer.edits import add
    from lenssteer.exports import export_gguf
    from lenssteer.site import Site
    from lenssteer.steering import Steerer

    made = Steerer({Site(layer, "resid_post"): add(vector(layer)) for layer in (2, 5)}, card=demo.card)
    found = load(export_gguf(made, tmp_path / "v.gguf"), coefficient=0.5)
    close(added(found), {"resid_post.2": vector(2) * 0.5, "resid_post.5": vector(5) * 0.5})
    assert found.card == demo.card
    assert found.provenance["imported"] == "repeng"
    assert found.provenance["notes"]["controlvector.model_hint"] == "llama"
    assert set(added(load(tmp_path / "v.gguf", sites="resid_post.5"))) == {"resid_post.5"}


def test_what_repeng_exports(tmp_path, load, monkeypatch):
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    repeng = pytest.importorskip("repeng", reason="repeng is not installed; see CONTRIBUTING.md")
    directions = {layer: vector(layer).float().numpy() for layer in range(1, 8)}
    repeng.ControlVector("llama", directions).export_gguf(tmp_path / "v.gguf")
    close(added(load(tmp_path / "v.gguf")), {f"resid_post.{layer}": v for layer, v in directions.items()})
    theirs = repeng.ControlVector.import_gguf(tmp_path / "v.gguf")
    assert all(np.array_equal(theirs.directions[layer], v) for layer, v in directions.items())


@pytest.mark.parametrize("kind", ["decoder_block", "self_attn", "mlp", "input_layernorm", "post_attention_layernorm"])
def test_steering_vectors_move_the_logits_as_theirs_do(kind, tmp_path, load, demo):
    """The package itself on the same Hugging Face model."""
    package = pytest.importorskip("steering_vectors", reason="steering-vectors is not installed; see CONTRIBUTING.md")
    from lenssteer.prompts import Encoded, pad

    theirs = package.SteeringVector({layer: vector(layer).float() * 0.3 for layer in (2, 5)}, kind)
    save_file({str(layer): v for layer, v in theirs.layer_activations.items()}, tmp_path / "v.safetensors",
              {"layer_type": theirs.layer_type})
    ids = list(range(5, 30))
    tokens = pad([Encoded(tuple(ids), (0, len(ids)), len(ids))], pad_id=0)
    with theirs.apply(demo.backend.model), torch.no_grad():
        expected = demo.backend.model(input_ids=torch.tensor([ids])).logits
    with load(tmp_path / "v.safetensors").on(demo):
        found = demo.logits(tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert (found - demo.logits(tokens)).abs().max() > 0.1


def test_vectors_by_layer_in_every_kind_of_file(tmp_path, load):
    named = {2: vector(2), 5: vector(5)}
    save_file({f"layers.{layer}": v for layer, v in named.items()}, tmp_path / "a.safetensors")
    (tmp_path / "b.json").write_text(json.dumps({"layer_type": "mlp", "layer_activations": {
        str(layer): v.tolist() for layer, v in named.items()}}))
    np.save(tmp_path / "c.npy", np.stack([vector(layer).numpy() for layer in range(8)]))
    np.save(tmp_path / "d.npy", vector(3).numpy())
    close(added(load(tmp_path / "a.safetensors")), {f"resid_post.{layer}": v for layer, v in named.items()})
    close(added(load(tmp_path / "b.json")), {f"mlp_out.{layer}": v for layer, v in named.items()})
    close(added(load(tmp_path / "c.npy")), {f"resid_post.{layer}": vector(layer) for layer in range(8)})
    close(added(load(tmp_path / "d.npy", sites="resid_post.3,attn_out.1")), {"resid_post.3": vector(3), "attn_out.1": vector(3)})
    with pytest.raises(FileError, match="--sites"):
        load(tmp_path / "d.npy")


def test_a_layer_type_is_the_site_it_is_in_that_model(tmp_path):
    """On Gemma the norm after attention is attn_out, and the attention itself is no site."""
    from lenssteer.exports import import_steerer
    from lenssteer.models import load_model
    from tests.models.tiny_models import save_tiny

    model = load_model(save_tiny("gemma2", tmp_path / "model"), backend="hf", check=False)
    for kind in ("post_attention_layernorm", "self_attn"):
        save_file({"1": torch.ones(64)}, tmp_path / f"{kind}.safetensors", {"layer_type": kind})
    found = import_steerer(tmp_path / "post_attention_layernorm.safetensors", model)
    assert [str(site) for site in found.sites] == ["attn_out.1"]
    with pytest.raises(MismatchError, match="no site at the self_attn"):
        import_steerer(tmp_path / "self_attn.safetensors", model)


PLANES = {
    "array": lambda: {"basis": torch.stack(pair(1))}, "selective's": lambda: dict(zip(("b1", "b2"), pair(1))),
    "angular's": lambda: dict(zip(("first_direction", "second_direction"), pair(1)))}


@pytest.mark.parametrize("form", PLANES)
def test_one_plane_is_used_at_every_norm(form, tmp_path, load):
    save_file(PLANES[form](), tmp_path / "p.safetensors")
    found = load(tmp_path / "p.safetensors", degrees=130)
    assert [str(site) for site in found.sites] == [f"ln{i}_out.{layer}" for layer in range(8) for i in (1, 2)]
    expected = rotated(H, *pair(1), 130)
    for edit in found.edits.values():
        np.testing.assert_allclose(edit(H).numpy(), expected, atol=1e-9)
    assert found.provenance["degrees"] == 130


def test_a_plane_of_each_module_as_angular_steering_stores_them(tmp_path, load):
    """Standard Angular against its own formula, h - P h + |P h| v."""
    named = {f"model.layers.{layer}.{norm}.{part}": v for layer, norm, seed in ((1, "post_attention_layernorm", 3), (2, "input_layernorm", 5))
             for part, v in zip(("first_direction", "second_direction"), pair(seed))}
    save_file(named, tmp_path / "p.safetensors")
    found = load(tmp_path / "p.safetensors", degrees=70, method="standard-angular")
    assert [str(site) for site in found.sites] == ["ln2_out.1", "ln1_out.2"]
    for edit, seed in zip((found.edits[site] for site in found.sites), (3, 5)):
        b = gram_schmidt(*pair(seed)).numpy()
        inside = H.numpy() @ b.T @ b
        aim = np.cos(np.deg2rad(70)) * b[0] + np.sin(np.deg2rad(70)) * b[1]
        expected = H.numpy() - inside + np.linalg.norm(inside, axis=-1, keepdims=True) * aim
        np.testing.assert_allclose(edit(H).numpy(), expected, atol=1e-9)
    only = load(tmp_path / "p.safetensors", degrees=70, sites="ln1_out.2")
    assert [str(site) for site in only.sites] == ["ln1_out.2"]


def test_places_of_planes(tmp_path, load):
    np.save(tmp_path / "one.npy", np.stack(pair(1)))
    found = load(tmp_path / "one.npy", degrees=20, sites="resid_post.1, resid_post.2", method="adaptive-angular")
    assert [str(site) for site in found.sites] == ["resid_post.1", "resid_post.2"]
    assert found.edits[found.sites[0]].gate is not None
    save_file({"3.basis": torch.stack(pair(1)), "resid_post.5.plane": torch.stack(pair(3))}, tmp_path / "p.safetensors")
    found = load(tmp_path / "p.safetensors", degrees=20)
    assert [str(site) for site in found.sites] == ["ln1_out.3", "ln2_out.3", "resid_post.5"]


def test_an_imported_steerer_steers_after_a_round_trip(tmp_path, load, demo):
    from lenssteer.steering import Steerer

    np.save(tmp_path / "v.npy", np.stack([vector(layer).numpy() for layer in range(8)]))
    folder = load(tmp_path / "v.npy", coefficient=0.2, where="generated").save(tmp_path / "steerer")
    again = Steerer.load(folder)
    assert str(again.where) == "generated"
    close(added(again), {f"resid_post.{layer}": vector(layer) * 0.2 for layer in range(8)})
    again.check(demo)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was loaded",))


@pytest.mark.parametrize("name", ["plane.pt", "v.pkl", "v.bin", "v.npy"])
def test_pickles_are_refused_unread_with_how_to_convert_them(name, tmp_path, load):
    import pickle

    if name.endswith("npy"):
        np.save(tmp_path / name, np.array(Bomb(), dtype=object), allow_pickle=True)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileError, match=r"pickle.*convert it yourself: save_file"):
        load(tmp_path / name)


def test_the_conversion_that_the_message_names_works(tmp_path, load):
    """Its lines, run on files as the two papers' code writes them."""
    import numpy
    from safetensors.numpy import save_file as save_arrays

    from lenssteer.exports import arrays

    first, second = (v.numpy() for v in pair(1))
    numpy.save(tmp_path / "as.npy", {"model.layers.1.input_layernorm": {"first_direction": first, "second_direction": second}})
    torch.save({"basis": pair(1), "projections": {}}, tmp_path / "plane.pt")
    for text, file, save, out in ((arrays.NUMPY, tmp_path / "as.npy", save_arrays, "planes.safetensors"),
                                  (arrays.TORCH[arrays.TORCH.index("save_file(dict"):], tmp_path / "plane.pt", save_file, "...")):
        line = text[:text.index(" of safetensors")] if " of safetensors" in text else text.replace(", ...)", ", '...')")
        eval(line.replace(f"'{out}'", "target"), {"numpy": numpy, "torch": torch, "file": file, "save_file": save,
                                                    "target": tmp_path / f"{file.stem}.safetensors"})
    np.testing.assert_allclose(next(iter(load(tmp_path / "as.safetensors", degrees=40).edits.values()))(H).numpy(),
                               rotated(H, *pair(1), 40), atol=1e-9)
    assert len(load(tmp_path / "plane.safetensors", degrees=40).edits) == 16


def bad_files(folder):
    """File, options, error and message."""
    save_file({"1": torch.ones(D), "2": torch.full((D,), float("nan"))}, folder / "nan.safetensors")
    save_file({"1": torch.ones(D - 1)}, folder / "narrow.safetensors")
    save_file({"basis": torch.ones(2, D - 1) + torch.eye(2, D - 1)}, folder / "narrow_plane.safetensors")
    save_file({"9": torch.ones(D)}, folder / "deep.safetensors")
    save_file({"b1": torch.ones(D)}, folder / "half.safetensors")
    save_file({"b1": torch.ones(D), "b2": torch.ones(D)}, folder / "parallel.safetensors")
    save_file({"model.layers.1.nothing.b1": vector(1), "model.layers.1.nothing.b2": vector(2)}, folder / "place.safetensors")
    save_file({"basis": torch.ones(3, D)}, folder / "three.safetensors")
    save_file({"mean": torch.ones(D), "1": torch.ones(D)}, folder / "named.safetensors")
    save_file({"1": torch.ones(D)}, folder / "kind.safetensors", {"layer_type": "decoder_blok"})
    save_file({"1": torch.ones(D)}, folder / "good.safetensors")
    (folder / "empty.json").write_text("{}")
    (folder / "broken.safetensors").write_bytes(b"no")
    (folder / "v.csv").write_text("1,2")
    return {
        "nan": ({}, FileError, "not finite"), "narrow": ({}, MismatchError, "127 values"),
        "narrow_plane": ({"degrees": 1}, MismatchError, "d_model 127"), "deep": ({}, SiteError, "9"),
        "half": ({"degrees": 1}, FileError, "no b2"), "parallel": ({"degrees": 1}, DirectionError, "parallel"),
        "place": ({"degrees": 1}, FileError, "no module of this model"), "three": ({"degrees": 1}, FileError, r"\[3, 128\]"),
        "named": ({}, FileError, "cannot tell the layer of 'mean'"), "kind": ({}, FileError, "decoder_block"),
        "broken": ({}, FileError, "is damaged"), "empty.json": ({}, FileError, "no arrays"), "v.csv": ({}, FileError, r"\.csv"),
        "missing": ({}, FileError, "cannot read"), "good": ({"degrees": 20}, ParameterError, "not degrees"),
    }


BAD = ("nan", "narrow", "narrow_plane", "deep", "half", "parallel", "place", "three", "named", "kind", "broken", "empty.json",
       "v.csv", "missing", "good")


@pytest.mark.parametrize("name", BAD)
def test_files_that_do_not_fit_are_refused(name, tmp_path, load):
    options, error, message = bad_files(tmp_path)[name]
    with pytest.raises(error, match=message):
        load(tmp_path / (name if "." in name else f"{name}.safetensors"), **options)


def test_options_that_do_not_fit_are_refused(tmp_path, load):
    save_file({"basis": torch.stack(pair(1))}, tmp_path / "p.safetensors")
    save_file({"1": vector(1)}, tmp_path / "v.safetensors")
    for name, options, message in (("p", {}, "how far"), ("p", {"degrees": 1, "method": "selectiv"}, "selective"),
                                   ("p", {"degrees": 1, "coefficient": 2.0}, "not coefficient"),
                                   ("v", {"source": "repengg"}, "repeng")):
        with pytest.raises(ParameterError, match=message):
            load(tmp_path / f"{name}.safetensors", **options)
    with pytest.raises(MismatchError, match=r"nothing for resid_post\.2; it has resid_post\.1"):
        load(tmp_path / "v.safetensors", sites="resid_post.2")
    with pytest.raises(FileError, match="no control vector"):
        load(tmp_path / "v.safetensors", source="repeng")


def lists_without_end(path):
    import gguf

    content = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"x"
    path.write_bytes(content + struct.pack("<IIQ", gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8, 2**60))


def ends_early(path):
    import gguf

    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_tensor("direction.1", np.ones(D, np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    path.write_bytes(path.read_bytes()[:-4])


def quantized(path):
    import gguf

    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_tensor("direction.1", gguf.quants.quantize(np.ones((1, D), np.float32), gguf.GGMLQuantizationType.Q8_0),
                      raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()


@pytest.mark.parametrize(("write", "message"), [
    (lists_without_end, "it holds a list, as models do"), (ends_early, "it ends before the 128 values"), (quantized, "stored as Q8_0"),
])
def test_a_gguf_file_that_is_no_whole_control_vector_is_refused_at_once(tmp_path, load, write, message):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    write(tmp_path / "v.gguf")
    with pytest.raises(FileError, match=message):
        load(tmp_path / "v.gguf")
