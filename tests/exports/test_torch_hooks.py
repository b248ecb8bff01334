"""The standalone file: run in a process where lenssteer cannot be imported, compared with the steerer."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lenssteer.errors import MismatchError, SteeringError
from lenssteer.models.demo import WEIGHTS

RUN = """
import importlib.util, sys
from pathlib import Path
sys.modules["lenssteer"] = sys.modules["transformer_lens"] = None   # an import of either fails
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
ids = load_file(sys.argv[2])["ids"]
for folder in map(Path, sys.argv[3:]):
    spec = importlib.util.spec_from_file_location("steer", folder / "steer.py")
    steer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steer)
    with torch.no_grad():
        with steer.steered(model):
            logits = model(input_ids=ids).logits
            new = model.generate(ids, max_new_tokens=12, do_sample=False)[:, ids.shape[1]:].contiguous()
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        refused = False
        try:
            with steer.steered(model):
                model.generate(ids, max_new_tokens=2, do_sample=False, use_cache=False)
        except ValueError:
            refused = True
    save_file({"logits": logits, "new": new, "refused": torch.tensor(refused)}, folder / "found.safetensors")
"""
KINDS = ("selective", "adaptive-angular", "spherical", "kept norm", "capped", "ablation", "stream", "sttp", "prompt",
         "generated")


@pytest.fixture(scope="module")
def steerers(demo, norm_out, resid_post):
    """Every part of the formula and of the file, at strengths that change the answer."""
    from lenssteer.edits import add, steer_to_target
    from lenssteer.site import Site, sites_of
    from lenssteer.steering import Steerer

    v = torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    at = lambda edit, *sites: Steerer({Site.parse(site): edit for site in sites}, card=demo.card)  # noqa: E731
    return {
        "selective": norm_out.steerer("selective", degrees=200),
        "adaptive-angular": norm_out.steerer("adaptive-angular", degrees=150),
        "spherical": resid_post.steerer("spherical", degrees=70, sites="all"),
        "kept norm": at(add(v, 0.2, norm="preserve"), "resid_post.2", "resid_post.5"),
        "capped": at(add(v, 0.2, norm="cap"), "mlp_out.2", "attn_out.5"),
        "ablation": resid_post.steerer("ablation", sites="every_write"),
        "stream": at(add(v, 0.1), "resid_pre.1", "resid_mid.3", "resid_post.6"),
        "sttp": at(steer_to_target(v, boundary=0.3, target=2.0), *map(str, sites_of("resid_post", 6))),
        "prompt": norm_out.steerer("selective", degrees=200, where="prompt"),
        "generated": resid_post.steerer("addition", coefficient=-1.5, sites="all", where="generated"),
    }


@pytest.fixture(scope="module")
def found(steerers, demo, tmp_path_factory):
    """What the files do: one process for all, since each takes seconds to import transformers."""
    from safetensors.torch import save_file

    from lenssteer.exports import export_torch

    folder = tmp_path_factory.mktemp("hooks")
    ids = torch.randint(5, 200, (3, 9), generator=torch.Generator().manual_seed(4))
    save_file({"ids": ids}, folder / "ids.safetensors")
    names = {kind: export_torch(steerer, "demo", folder / kind.replace(" ", "-")) for kind, steerer in steerers.items()}
    subprocess.run([sys.executable, "-c", RUN, WEIGHTS, folder / "ids.safetensors", *names.values()], check=True)
    return ids, {kind: load_file(name / "found.safetensors") for kind, name in names.items()}


def padded(ids):
    from lenssteer.prompts import Encoded, pad

    return pad([Encoded(tuple(row), (0, len(row)), len(row)) for row in ids.tolist()], pad_id=0)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_tokens_are_those_of_the_steerer(kind, steerers, found, demo):
    from lenssteer.models.decoding import Decoding, decode

    ids, results = found
    plain = demo.logits(padded(ids))
    with steerers[kind].on(demo):
        answers = decode(demo, padded(ids), Decoding(12))
        logits = demo.logits(padded(ids))
    assert (plain - logits).abs().max() > 0.1 or kind == "generated"
    torch.testing.assert_close(results[kind]["logits"], logits, atol=1e-4, rtol=1e-5)
    for row, answer in zip(results[kind]["new"].tolist(), answers, strict=True):
        end = next((i for i, token in enumerate(row) if token in demo.stop_ids), len(row))
        assert row[:end] == answer


def test_prompt_and_answer_are_told_apart_by_the_cache(found):
    results = found[1]
    assert {kind: bool(result["refused"]) for kind, result in results.items()} == {
        kind: kind in ("prompt", "generated") for kind in KINDS}


def test_the_file_is_short_and_names_nothing_of_ours(steerers, tmp_path):
    from lenssteer.exports import export_torch

    text = (export_torch(steerers["selective"], "demo", tmp_path) / "steer.py").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("    'ln")]
    assert len(lines) <= 40
    assert "import lenssteer" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"steer.py", "tensors.safetensors"}


def test_names_of_an_artefact_stay_text(steerers, tmp_path):
    from dataclasses import replace

    from lenssteer.exports import export_torch

    nasty = replace(steerers["selective"], provenance={"method": 'x"""\nimport os  # '})
    text = (export_torch(nasty, "demo", tmp_path) / "steer.py").read_text()
    compile(text, "steer.py", "exec")
    assert not any(line.startswith("import os") for line in text.splitlines())


def test_what_the_file_cannot_do_is_refused(demo, norm_out, tmp_path):
    from lenssteer.edits import add
    from lenssteer.exports import export_torch
    from lenssteer.site import Site
    from lenssteer.steering import Condition, Steerer

    plain = norm_out.steerer("selective", degrees=20)
    gate = Condition(Site.parse("resid_pre.0"), torch.ones(demo.card.d_model, dtype=torch.float64), 0.0)
    for steerer, message in ((plain.at("last_prompt"), "where='last_prompt'"), (plain.over("linear(4)"), "schedule"),
                             (plain.when(gate), "has a gate")):
        with pytest.raises(SteeringError, match=message):
            export_torch(steerer, "demo", tmp_path)
    with pytest.raises(MismatchError, match=r"no resid_post\.9"):
        export_torch(Steerer({Site.parse("resid_post.9"): add(torch.ones(128))}), "demo", tmp_path)
