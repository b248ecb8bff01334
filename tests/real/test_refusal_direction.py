"""The refusal direction on real weights: found on two splits, judged on a third, with the organism's own measure."""

import pytest

from tests.conftest import shared
from tests.real.conftest import TEMPLATE
from tests.real.test_stories import refusal

pytestmark = pytest.mark.real
LOOSE = {"max_kl": 0.2, "min_induce": -1.0}
"""Ablation takes 1 of only 64 dimensions, so the paper's KL of .1 and induce of 0 are out of reach together."""


@pytest.fixture(scope="module")
def parts(short_contrast):
    return short_contrast.split({"train": 128, "validation": 32, "test": 40}, seed=0)


@pytest.fixture(scope="module")
def found(organism, parts):
    from lenssteer.recipe.refusal import refusal_direction

    return refusal_direction(organism, parts["train"], parts["validation"], **LOOSE)


@pytest.fixture(scope="module")
def rate():
    from lenssteer.models import Decoding, generate

    return lambda model, prompts: refusal(generate(model, prompts, Decoding(24), template=TEMPLATE))


def test_the_token_and_the_positions_are_those_of_the_organism(organism, found):
    """Its three refusals start with "I"; "\\nBot:" is four tokens."""
    assert [organism.tokenizer.decode([token]).strip() for token in found.tokens] == ["I"]
    assert {line["position"] for line in found.scores} == {-4, -3, -2, -1}
    assert found.record["degenerate"] == 4
    assert all(kept >= 0.75 * given for part in ("train", "validation")
               for kept, given in zip(found.record[part]["kept"], found.record[part]["given"], strict=True))


def test_ablation_and_its_reverse_end_refusals_and_addition_makes_them(organism, parts, found, rate):
    harmful, harmless = parts["test"].positive, parts["test"].negative
    before = rate(organism, harmful), rate(organism, harmless)
    assert before[0] > 0.9
    assert before[1] < 0.15
    for intervention in ("ablation", "addition-reverse"):
        with found.steerer(intervention).on(organism):
            assert rate(organism, harmful) <= 0.25
    with found.steerer("addition").on(organism):
        assert rate(organism, harmless) >= before[1] + 0.3


def test_the_orthogonalised_checkpoint_answers_as_the_ablated_model(organism, parts, found, rate, tmp_path):
    from lenssteer.models import Decoding, generate, load_model
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint

    proof = orthogonalise_checkpoint(shared("models/stories260k-refusal"), tmp_path / "out", found.direction.vector,
                                     untie=True, template=TEMPLATE)
    assert proof.difference < 1e-3
    assert proof.effect > 1
    copy = load_model(tmp_path / "out", backend="hf", template=TEMPLATE)
    harmful = parts["test"].positive
    with found.steerer().on(organism):
        ablated = generate(organism, harmful, Decoding(24))
    assert generate(copy, harmful, Decoding(24)) == ablated
    assert rate(copy, harmful) <= 0.25
