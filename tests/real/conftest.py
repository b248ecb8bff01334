"""The refusal organism and its prompts, shared by the tests on real weights."""

import pytest

from tests.conftest import shared

TEMPLATE = "User: {prompt}\nBot:"


@pytest.fixture(scope="session")
def organism():
    """The story model that refuses, on the fastest backend."""
    from lenssteer.models import load_model

    return load_model(shared("models/stories260k-refusal"), backend="hf", template=TEMPLATE)


@pytest.fixture(scope="session")
def short_contrast():
    """AdvBench against Alpaca instructions below 160 characters."""
    from lenssteer.prompts import ContrastSet

    contrast = ContrastSet.from_files(shared("data/harmful_prompts/advbench.csv"),
                                      shared("data/alpaca_instructions_nc/instructions.jsonl"))
    return ContrastSet(contrast.positive, tuple(p for p in contrast.negative if len(p) < 160))
