"""Without the plugin's variable nothing changes, and unsteered requests are bit for bit those of a plain vLLM."""

import json
import os
import subprocess
import sys

import pytest
import torch

from lenssteer.engines.vllm import plugin, versions
from lenssteer.errors import ModelError
from lenssteer.models.demo import WEIGHTS

PLAIN = """
import json, sys
from vllm import LLM, SamplingParams
import vllm.v1.core.kv_cache_utils as utils
asked = json.load(sys.stdin)
llm = LLM(asked["model"], dtype="float32", block_size=32, enforce_eager=True, skip_tokenizer_init=True,
          generation_config="vllm", enable_prefix_caching=False)
params = SamplingParams(temperature=0, max_tokens=8, logprobs=3, ignore_eos=True, detokenize=False)
outputs = llm.generate([{"prompt_token_ids": ids} for ids in asked["prompts"]], params, use_tqdm=False)
found = [[[place[token].logprob.hex() for token in sorted(place)] for place in one.outputs[0].logprobs] for one in outputs]
print("FOUND", json.dumps({"found": found, "module": utils._gen_prompt_embeds_extra_hash_keys.__module__}))
"""


@pytest.mark.filterwarnings("ignore")
def test_unsteered_rows_are_those_of_a_plain_vllm_bit_for_bit(norm_out):
    pytest.importorskip("vllm", reason="needs vLLM; CONTRIBUTING.md has the command that runs these tests")
    from vllm import SamplingParams

    from lenssteer.engines.vllm.private import shelved
    from tests.engines.vllm.conftest import started

    engine = started(enforce_eager=True, enable_prefix_caching=False)
    prompts = [[1, *torch.randint(5, 200, (20,), generator=torch.Generator().manual_seed(row)).tolist()] for row in range(6)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LENSSTEER")}
    told = subprocess.run([sys.executable, "-c", PLAIN], input=json.dumps({"model": str(WEIGHTS), "prompts": prompts}),
                          env=kept, text=True, capture_output=True, timeout=300, check=True).stdout
    theirs = json.loads(next(line for line in told.splitlines() if line.startswith("FOUND")).removeprefix("FOUND"))
    assert theirs["module"] == "vllm.v1.core.kv_cache_utils"
    asked = shelved(norm_out.steerer("selective", degrees=180))
    params = [SamplingParams(temperature=0, max_tokens=8, logprobs=3, ignore_eos=True, detokenize=False,
                             extra_args=asked if row % 2 else None) for row in range(6)]
    outputs = engine.llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    ours = [[[place[token].logprob.hex() for token in sorted(place)] for place in one.outputs[0].logprobs] for one in outputs]
    same = [ours[row] == theirs["found"][row] for row in range(6)]
    assert same == [True, False] * 3


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
