"""Tokenizer and prompt format by hash: what is compared when a steerer is used, and what it says."""

import copy
import json

import pytest
import torch

from lenssteer import edits
from lenssteer.errors import MismatchError
from lenssteer.models import LensModel
from lenssteer.prompts.identity import MismatchWarning, reading_of, refuse_other_reading, template_hash, tokenizer_hash
from lenssteer.recipe import calibrate
from lenssteer.site import Site
from lenssteer.steering import Steerer


class Words:
    """A tokenizer of words, in the words of Hugging Face."""

    def __init__(self, words, added=(), chat_template=None):
        self.words, self.added, self.chat_template = dict(words), dict.fromkeys(added, 99), chat_template

    def get_vocab(self):
        return self.words | self.added

    def get_added_vocab(self):
        return self.added

    def encode(self, text, add_special_tokens=True):
        return [self.words.get(word, 0) for word in text.split()]


FOX = {"The": 1, "fox,": 2, "quick": 3}


def test_the_vocabulary_counts_and_what_was_added_does_not():
    plain = tokenizer_hash(Words(FOX))
    assert len(plain) == 16
    assert tokenizer_hash(Words(dict(reversed(FOX.items())))) == plain
    assert tokenizer_hash(Words(FOX, added=["<pad>"])) == plain
    assert tokenizer_hash(Words(FOX | {"quick": 4})) != plain
    assert tokenizer_hash(Words(FOX | {"new": 4})) != plain
    assert tokenizer_hash(object()) == ""


def test_the_same_vocabulary_split_in_another_way_is_another():
    class Last(Words):
        def encode(self, text, add_special_tokens=True):
            return super().encode(text)[-1:]

    assert tokenizer_hash(Last(FOX)) != tokenizer_hash(Words(FOX))


def test_a_format_is_that_of_the_chat_template_where_it_is_used():
    one, other = Words(FOX, chat_template="<user>{{ x }}"), Words(FOX, chat_template="[user]{{ x }}")
    assert template_hash(one, "auto") != template_hash(other, "auto")
    assert template_hash(one, "auto") == template_hash(one, "chat")
    assert template_hash(one, "Q: {prompt}") == template_hash(other, "Q: {prompt}")
    assert template_hash(Words(FOX), "auto") == template_hash(one, "none")


def test_what_is_compared():
    words = Words(FOX, chat_template="a")
    record = {**reading_of(words, "auto"), "template": "auto"}
    assert refuse_other_reading(record, words, "auto") == ""
    with pytest.raises(MismatchError, match="made with another tokenizer"):
        refuse_other_reading(record, Words(FOX | {"new": 9}, chat_template="a"), "auto")
    changed = Words(FOX, chat_template="b")
    assert "has the chat template been changed" in refuse_other_reading(record, changed, "auto")
    assert refuse_other_reading(record, changed, "Q: {prompt}") == ""
    assert refuse_other_reading({}, changed, "auto") == ""
    assert refuse_other_reading(record, object(), "none") == ""


def test_a_calibration_keeps_it_and_a_steerer_compares_it(demo, demo_contrast, tmp_path):
    found = calibrate(demo, demo_contrast, sites=[Site(3, "resid_post")], scatter=False, samples=False)
    assert {name: found.record[name] for name in ("tokenizer", "chat_template")} == reading_of(demo.tokenizer, "auto")
    steerer = Steerer.load(found.steerer("ablation", sites="all").save(tmp_path))
    assert json.loads((tmp_path / "steerer.json").read_text())["provenance"]["calibration"]["tokenizer"]
    steerer.check(demo)
    another = copy.copy(demo)
    another.tokenizer = Words(FOX)
    with pytest.raises(MismatchError, match="another tokenizer"):
        steerer.check(another)
    templated = LensModel(demo.backend, copy.deepcopy(demo.tokenizer), demo.stop_ids)
    templated.tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    with pytest.warns(MismatchWarning, match="chat template been changed"):
        steerer.check(templated)


def test_steerers_of_earlier_formats_have_nothing_to_compare(demo):
    Steerer({Site(3, "resid_post"): edits.add(torch.ones(demo.card.d_model))}, card=demo.card, provenance={"calibration": {"template": "auto"}}).check(demo)
