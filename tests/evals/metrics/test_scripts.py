import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics import SCRIPTS, contamination, expected_scripts, script, script_shares

SHARED = regex.compile(r"\p{Script=Common}|\p{Script=Inherited}")
ODD = {"TURNED CAPITAL F", "TURNED SMALL F", "ROMAN NUMERAL REVERSED ONE HUNDRED"}


@pytest.fixture(scope="module")
def property_of():
    """The Unicode Script property of a letter, from the regex package."""
    patterns = {name: regex.compile(rf"\p{{Script={name}}}") for name in SCRIPTS}

    def found(character):
        if SHARED.match(character):
            return None
        return next((name for name, pattern in patterns.items() if pattern.match(character)), "other")

    return found


def test_letters_have_the_script_that_unicode_gives_them(property_of):
    """Every letter of the Basic Multilingual Plane, and the supplementary kana and Arabic letters."""
    letters = [c for c in map(chr, [*range(0x10000), *range(0x1B000, 0x1B170), *range(0x1EE00, 0x1EF00)])
               if unicodedata.category(c).startswith("L") and unicodedata.name(c, "") not in ODD]
    assert len(letters) > 45000
    known = [(c, script(c), property_of(c)) for c in letters]
    named = [row for row in known if row[1] in SCRIPTS]
    assert {row[1] for row in named} == set(SCRIPTS)
    assert not [row for row in named if row[2] not in (row[1], None)]
    assert len([row for row in named if row[2] is None]) <= 6
    plain = [row for row in known if row[2] in SCRIPTS and unicodedata.category(row[0]) != "Lm"
             and unicodedata.normalize("NFKC", row[0]) == row[0]]
    assert len(plain) > 40000
    assert not [row for row in plain if row[1] != row[2]]


@pytest.mark.parametrize("character", [*"7\u0663 .,-_\u2019\u201c\u2014\u2022\u20ac+", "\U0001f600", "\u0301", "\u0940", "\u200d", "\n",
                                       "\u00b5", "\U0001d400", "\u02b0"])
def test_what_is_no_letter_and_what_all_scripts_share_has_no_script(character):
    assert script(character) is None


def test_rare_scripts_are_other():
    assert script("\u13a0") == script("\u16a0") == "other"
    assert contamination("\u13a0b") == 0.5
    assert contamination("\u13a0", expected_scripts("\u13a1")) == 0


@pytest.mark.parametrize(("text", "share"), [
    ("", 0.0), ("hello", 0.0), ("\U0001f600\U0001f44d\U0001f3fd", 0.0), ("\u201cIt\u2019s \u2014 fine\u2026\u201d", 0.0), ("123 \u0663", 0.0),
    ("a" * 5000, 0.0), ("ab\u4f60\u597d", 0.5), ("abc\u0436", 0.25), ("\u0645\u0631\u062d\u0628\u0627", 1.0),
    ("\uff21\uff22\uff23", 0.0), ("\u30c6\u30b9\u30c8 x", 0.75), ("\n\t ", 0.0),
])
def test_contamination_of_a_latin_answer_by_hand(text, share):
    assert contamination(text) == pytest.approx(share)


def test_combining_marks_belong_to_their_letter():
    composed = "caf\u00e9 \u0436"
    assert contamination(unicodedata.normalize("NFD", composed)) == contamination(composed) == 0.2
    hindi = "\u0928\u092e\u0938\u094d\u0924\u0947"
    assert script_shares(hindi) == {"devanagari": 1.0}
    assert contamination(hindi, ["devanagari"]) == 0


def test_shares_are_sorted_and_count_letters_only():
    assert list(script_shares("ab \u4f60\u597d\u4e16 \u0436 9").items()) == [("han", 0.5), ("latin", 1 / 3), ("cyrillic", 1 / 6)]
    assert script_shares("42 !") == {}


@pytest.mark.parametrize(("prompt", "scripts"), [
    ("What is 2 + 2?", ("latin",)), ("2 + 2 = ?", ("latin",)), ("", ("latin",)), ("\u0447\u0442\u043e", ("cyrillic",)),
    ("DNA \u662f\u4ec0\u4e48", ("han", "latin")), ("\u3053\u308c\u306f", ("han", "hiragana", "katakana")),
])
def test_the_prompt_says_which_scripts_to_expect(prompt, scripts):
    assert expected_scripts(prompt) == scripts


def test_one_script_may_be_given_as_a_word():
    assert contamination("\u0436\u0436z", "cyrillic") == pytest.approx(1 / 3)


def test_letters_of_another_width_keep_their_script():
    assert script_shares("\uff76\uff85 \uff21\uff22") == {"katakana": 0.5, "latin": 0.5}


@pytest.mark.parametrize("expected", [(), ["klingon"], ["Latin"]])
def test_unknown_scripts_are_refused(expected):
    with pytest.raises(ParameterError, match="expected at least one"):
        contamination("a", expected)


def test_a_text_has_no_single_script():
    with pytest.raises(ParameterError, match="script_shares"):
        script("ab")


@given(st.text(), st.text())
def test_shares_add_up_and_texts_mix_by_letters(one, other):
    letters = [sum(script(c) is not None for c in text) for text in (one, other)]
    assert sum(script_shares(one).values()) == pytest.approx(1 if letters[0] else 0)
    mixed = contamination(one) * letters[0] + contamination(other) * letters[1]
    assert contamination(one + other) * sum(letters) == pytest.approx(mixed)
    assert contamination(one, (*SCRIPTS, "other")) == 0
