"""What a control vector holds, read back with the gguf package, and what it cannot hold."""

import numpy as np
import pytest
import torch

from lenssteer.errors import FileError, SteeringError

D = 16


def vector(seed):
    return torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steerer(edits, **options):
    from lenssteer.site import Site
    from lenssteer.steering import Steerer

    return Steerer({Site.parse(site): edit for site, edit in edits.items()}, **options)


def test_each_direction_is_what_is_added_to_that_output(tmp_path, demo):
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    from lenssteer.edits import add, clamp
    from lenssteer.exports import export_gguf

    made = steerer({"resid_post.1": add(vector(1), 2.0), "resid_pre.2": add(vector(2)), "resid_pre.5": add(vector(3), -1.0),
                    "resid_post.6": clamp(torch.zeros(D), 1.0)}, card=demo.card)
    reader = gguf.GGUFReader(export_gguf(made, tmp_path / "new" / "v.gguf"))
    found = {tensor.name: tensor for tensor in reader.tensors}
    expected = {"direction.1": 2 * vector(1) + vector(2), "direction.4": -vector(3), "direction.6": torch.zeros(D)}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].tensor_type == gguf.GGMLQuantizationType.F32
        np.testing.assert_allclose(found[name].data, value.numpy(), rtol=1e-6)
    texts = {name: bytes(reader.get_field(name).parts[-1]).decode() for name in ("general.architecture", "controlvector.model_hint")}
    assert texts == {"general.architecture": "controlvector", "controlvector.model_hint": "llama"}
    assert reader.get_field("controlvector.layer_count").parts[-1][0] == 3


def refused():
    from lenssteer.edits import LowRankEdit, ablate, add, rotate_by, rotate_to

    v, plane = vector(1), torch.linalg.qr(torch.stack([vector(1), vector(2)]).T).Q.T
    return {"first block": {"resid_post.0": add(v)}, "first block or before": {"resid_pre.1": add(v)},
            "outputs of blocks": {"mlp_out.2": add(v)}, "depends on the activation": {"resid_post.2": ablate(v)},
            "every token, and": {"resid_post.2": rotate_by(plane, degrees=30)},
            "in-plane part": {"resid_post.2": rotate_to(plane, degrees=30)},
            "norm rule": {"resid_post.2": add(v, norm="cap")},
            "2 rows": {"resid_post.2": LowRankEdit.stack([add(v), add(-v)])},
            "not finite": {"resid_post.2": add(v, 1e300)}}


@pytest.mark.parametrize("message", ["first block", "first block or before", "outputs of blocks", "depends on the activation",
                                     "every token, and", "in-plane part", "norm rule", "2 rows", "not finite"])
def test_what_a_control_vector_cannot_do_is_refused(message, tmp_path):
    from lenssteer.exports import export_gguf

    with pytest.raises(SteeringError, match=message):
        export_gguf(steerer(refused()[message]), tmp_path / "v.gguf")
    assert not (tmp_path / "v.gguf").exists()


def test_tokens_gates_schedules_and_latents_are_refused(tmp_path):
    from lenssteer.edits import add
    from lenssteer.exports import export_gguf
    from lenssteer.site import Site
    from lenssteer.steering import Condition

    plain = steerer({"resid_post.2": add(vector(1))})
    gate = Condition(Site.parse("resid_pre.0"), vector(3), 0.0)
    for made, message in ((plain.at("prompt"), "where='prompt'"), (plain.when(gate), "gate"), (plain.over("cosine(4)"), "schedule")):
        with pytest.raises(SteeringError, match=message):
            export_gguf(made, tmp_path / "v.gguf")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys

    from lenssteer.edits import add
    from lenssteer.exports import export_gguf

    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(FileError, match=r"lenssteer\[gguf\]"):
        export_gguf(steerer({"resid_post.2": add(vector(1))}), tmp_path / "v.gguf")
