"""A folder described without loading it agrees with the model that is loaded from it."""

import pytest

from lenssteer.errors import FileError, ModelError
from lenssteer.models import load_model
from lenssteer.models.described import describe
from tests.models.tiny_models import KINDS, tiny_model


@pytest.mark.parametrize("shard_size", ["50GB", "60KB"])
@pytest.mark.parametrize("kind", KINDS)
def test_card_and_stop_tokens_are_those_of_the_loaded_model(kind, shard_size, tmp_path):
    """Tied and untied weights, in one file and in several."""
    model, tokenizer = tiny_model(kind)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    tokenizer.save_pretrained(tmp_path)
    found, loaded = describe(tmp_path, "hf"), load_model(tmp_path, backend="hf", check=False)
    assert found.card == loaded.card
    assert found.stop_ids == loaded.stop_ids
    assert found.tokenizer("some text").input_ids == loaded.tokenizer("some text").input_ids


def test_the_demo_has_the_fingerprint_its_artefacts_record(demo):
    assert describe("demo", "hf").card == demo.card
    assert describe("demo", "vllm").card.fingerprint == demo.card.fingerprint != ""


def test_another_weight_has_another_fingerprint(tmp_path):
    cards = []
    for seed in (0, 1):
        model, tokenizer = tiny_model("llama", seed=seed)
        model.save_pretrained(tmp_path / str(seed))
        tokenizer.save_pretrained(tmp_path / str(seed))
        cards.append(describe(tmp_path / str(seed), "hf").card.fingerprint)
    assert cards[0] != cards[1]


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        describe(tmp_path, "hf")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises((FileError, ModelError)):
        describe(tmp_path, "hf")
