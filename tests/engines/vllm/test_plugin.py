"""Without the plugin's variable nothing changes, and unsteered requests are bit for bit those of a plain vLLM."""

import json
import os
import subprocess
import sys

import pytest
import torch

from lenssteer.engines.vllm import plugin, private, versions
from lenssteer.engines.vllm.private import shelved
from lenssteer.engines.vllm.settings import SITES, STEERERS
from lenssteer.errors import ModelError
from lenssteer.models.demo import WEIGHTS
from lenssteer.site import STREAMS, Site

RUN = """
import json, sys
from lenssteer.engines.vllm.plugin import register
register()
from vllm import LLM, SamplingParams
import vllm.v1.core.kv_cache_utils as utils
told = json.load(sys.stdin)
llm = LLM(told["model"], dtype="float32", block_size=32, enforce_eager=True, skip_tokenizer_init=True,
          generation_config="vllm", enable_prefix_caching=False)
params = [SamplingParams(temperature=0, max_tokens=8, logprobs=3, ignore_eos=True, detokenize=False, extra_args=asked)
          for asked in told["asked"]]
outputs = llm.generate([{"prompt_token_ids": ids} for ids in told["prompts"]], params, use_tqdm=False)
found = [[[place[token].logprob.hex() for token in sorted(place)] for place in one.outputs[0].logprobs] for one in outputs]
print("FOUND", json.dumps([found, utils._gen_prompt_embeds_extra_hash_keys.__module__]))
"""


def run(prompts, asked, **variables):
    """Log-probabilities of answers in a process of its own, and whose code makes the keys of blocks there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LENSSTEER")}
    told = json.dumps({"model": str(WEIGHTS), "prompts": prompts, "asked": asked})
    said = subprocess.run([sys.executable, "-c", RUN], input=told, text=True, capture_output=True, timeout=300, check=True,
                          env={**kept, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **variables}).stdout
    return json.loads(next(line for line in said.splitlines() if line.startswith("FOUND")).removeprefix("FOUND"))


def test_unsteered_rows_are_those_of_a_plain_vllm_bit_for_bit(norm_out):
    pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")
    prompts = [[1, *torch.randint(5, 200, (20,), generator=torch.Generator().manual_seed(row)).tolist()] for row in range(6)]
    asked = shelved(norm_out.steerer("selective", degrees=180))
    sites = ",".join(str(Site(layer, stream)) for layer in range(8) for stream in STREAMS)
    plain, whose = run(prompts, [None] * 6)
    assert whose == "vllm.v1.core.kv_cache_utils"
    mixed, whose = run(prompts, [asked if row % 2 else None for row in range(6)],
                       **{STEERERS: private.folder().name, SITES: sites})
    assert whose == "lenssteer.engines.vllm.plugin"
    assert [one == other for one, other in zip(mixed, plain, strict=True)] == [True, False] * 3


def test_without_the_variable_nothing_is_registered(monkeypatch):
    monkeypatch.delenv("LENSSTEER_STEERERS", raising=False)
    monkeypatch.setattr(plugin, "_registered", False)
    monkeypatch.setattr(plugin, "_patch_worker", lambda: pytest.fail("patched"))
    plugin.register()
    assert not plugin._registered


@pytest.mark.parametrize(("found", "message"), [(None, "not installed"), ("0.31.2", "0.31.2.*tested with 0.32"),
                                                ("0.33.0", "0.33.0"), ("1.0", "1.0")])
def test_other_versions_are_refused_by_name(monkeypatch, found, message):
    monkeypatch.setattr(versions, "installed", lambda: found)
    with pytest.raises(ModelError, match=message) as refused:
        versions.require_vllm()
    assert "pip install" in str(refused.value)


@pytest.mark.parametrize("found", ["0.32.0", "0.32.1+cpu"])
def test_tested_versions_pass(monkeypatch, found):
    monkeypatch.setattr(versions, "installed", lambda: found)
    assert versions.require_vllm() == found


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_vllm_cannot_run_here_is_refused_before_it_is_loaded():
    pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")
    from lenssteer.engines.vllm.loading import load_vllm
    from tests.conftest import shared

    with pytest.raises(ModelError, match="heads of 8"):
        load_vllm(shared("models/stories260k-refusal"))
