"""CAA on real A/B questions: which token is read, and that the vector is what Rimsky et al. define."""

import json
import random

import pytest
import torch

from tests.conftest import shared

pytestmark = pytest.mark.real
PAIRS = "data/caa/coordinate-other-ais.generate.json"
LAYER = 2


@pytest.fixture(scope="module")
def stories():
    from lenssteer.models import load_model

    return load_model(shared("models/stories260k"), backend="hf", template="none")


@pytest.fixture(scope="module")
def records():
    drawn = random.Random(0).sample(json.loads(shared(PAIRS).read_text()), 40)
    assert {r["answer_matching_behavior"] for r in drawn} == {"(A)", "(B)"}
    return drawn


def letters(stories, records, key):
    """The read token of every answer, decoded."""
    from lenssteer.prompts import AnswerContrast

    side = getattr(AnswerContrast.from_pairs(records), key)
    encoded = stories.encode([e.prompt for e in side], answers=[e.answer for e in side])
    return [stories.tokenizer.decode([one.ids[-2]]) for one in encoded]


def test_every_behaviour_is_read_at_its_letter(stories):
    """Every question file of the CAA release that this context of 512 tokens takes; "(A)" is four tokens here."""
    files = sorted(shared("data/caa").glob("*.generate.json"))
    assert len(files) == 7
    for file in files:
        few = [r for r in json.loads(file.read_text()) if len(r["question"]) < 600][:20]
        assert few
        for key, name in (("positive", "answer_matching_behavior"), ("negative", "answer_not_matching_behavior")):
            assert letters(stories, few, key) == [r[name].strip()[1] for r in few]


@pytest.fixture(scope="module")
def vector(stories, records):
    """Mean over pairs of the letter's resid_post, matching minus not, from transformers alone, a pair at a time."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shared("models/stories260k"), dtype=torch.float32).eval()
    tokenizer = stories.tokenizer
    total = torch.zeros(model.config.hidden_size, dtype=torch.float64)
    for record in records:
        prompt = [tokenizer.bos_token_id, *tokenizer(record["question"], add_special_tokens=False)["input_ids"]]
        for name, sign in (("answer_matching_behavior", 1), ("answer_not_matching_behavior", -1)):
            letter = tokenizer(record[name], add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                states = model(torch.tensor([prompt + letter]), output_hidden_states=True).hidden_states
            total += sign * states[LAYER + 1][0, len(prompt) + tokenizer.convert_ids_to_tokens(letter).index(record[name][1])]
    return total / len(records)


@pytest.fixture(scope="module")
def folder(stories, records, tmp_path_factory):
    """What `lenssteer calibrate --pairs` writes."""
    from typer.testing import CliRunner

    from lenssteer.cli.main import app

    home = tmp_path_factory.mktemp("caa")
    (home / "pairs.json").write_text(json.dumps(records))
    result = CliRunner().invoke(app, [
        "calibrate", str(shared("models/stories260k")), "--pairs", str(home / "pairs.json"), "-o", str(home / "c"),
        "--sites", "resid_post", "--template", "none", "--backend", "hf", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["record"]["at"] == "answer(-2)"
    return home / "c"


def test_the_vector_is_the_mean_difference_at_the_letter(folder, vector):
    from lenssteer.recipe import Calibration
    from lenssteer.site import Site

    calibration = Calibration.load(folder)
    found = calibration.candidates.direction(Site(LAYER, "resid_post"))
    assert calibration.record["prompts"] == 80
    torch.testing.assert_close(found.raw.double(), vector, atol=1e-5, rtol=1e-4)


def test_the_steerer_adds_the_vector_after_the_question_and_nowhere_else(stories, folder, vector):
    from lenssteer.models import Decoding, generate
    from lenssteer.recipe import Calibration

    steerer = Calibration.load(folder).steerer("caa", coefficient=3.0, source=f"resid_post.{LAYER}")
    [(site, edit)] = steerer.edits.items()
    assert str(site) == f"resid_post.{LAYER}"
    h = torch.randn(5, len(vector), dtype=torch.float64)
    torch.testing.assert_close(edit(h), h + 3 * vector, atol=1e-4, rtol=1e-4)
    with steerer.on(stories) as receipt:
        generate(stories, ["Do you agree?\n (A) Yes\n (B) No"], Decoding(5))
    [seen] = receipt.sites.values()
    assert 0 < seen.edited <= 5 < seen.seen, "without a template only answer tokens are edited"


def test_a_position_before_the_letter_is_refused(stories, records):
    """Each question stands in both classes, so up to "(" both are the same text."""
    from lenssteer.capture import ReadAt
    from lenssteer.capture.encoding import encode_contrast
    from lenssteer.errors import PromptError
    from lenssteer.prompts import AnswerContrast

    pairs = AnswerContrast.from_pairs(records)
    encode_contrast(stories, pairs, at=ReadAt.answer(-2))
    with pytest.raises(PromptError, match=r"40 exchanges .*answer\(-3\).*'\(', '[AB]', '\)'"):
        encode_contrast(stories, pairs, at=ReadAt.answer(-3))
    with pytest.raises(PromptError, match=r"no token at answer\(-5\) \(80 such\).*'\('"):
        encode_contrast(stories, pairs, at=ReadAt.answer(-5))


def test_a_tokenizer_that_does_not_part_bracket_and_letter_is_refused(demo):
    """Words stand for tokens: one token for "(A)", then "(" with "A)" as the other token."""
    from lenssteer.capture import ReadAt
    from lenssteer.capture.encoding import encode_contrast
    from lenssteer.errors import PromptError
    from lenssteer.prompts import AnswerContrast, Exchange

    whole = AnswerContrast((Exchange("repeat : red", "sock"),), (Exchange("repeat : red", "button"),))
    with pytest.raises(PromptError, match=r"no token at answer\(-2\).*\['sock'\]"):
        encode_contrast(demo, whole, at=ReadAt.answer(-2))
    parted = AnswerContrast((Exchange("repeat : red", "red sock"),), (Exchange("repeat : red", "red button"),))
    with pytest.raises(PromptError, match=r"1 exchanges .*\['red', 'sock'\] and \['red', 'button'\]"):
        encode_contrast(demo, parted, at=ReadAt.answer(-2))
    assert len(encode_contrast(demo, parted, at=ReadAt.answer(-1))) == 2
