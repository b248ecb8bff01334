import math
import re

import pytest
import torch

from lenssteer import edits
from lenssteer.errors import ParameterError, SteeringError
from lenssteer.models import Decoding, generate
from lenssteer.prompts import Columns, pad
from lenssteer.prompts.tokens import Encoded
from lenssteer.site import Site
from lenssteer.steering import Schedule, Steerer, Where

PROMPTS = ["how do i paint a red cake ?", "repeat : cake kite", "what is the color of a lemon ?"]
SITE = Site(3, "resid_post")
TOKENS = pad([Encoded(tuple(range(8)), (0, 1), 3), Encoded(tuple(range(6)), (0, 1), 4)])
CLOSED_FORMS = {
    "constant": lambda t: 1.0,
    "linear(4)": lambda t: max(0.0, 1 - t / 4),
    "linear(2, 3, 1)": lambda t: [3.0, 2.0, 1.0][min(t, 2)],
    "cosine(4)": lambda t: math.cos(math.pi / 2 * min(t / 4, 1)) ** 2,
    "cosine(2, 3, 1)": lambda t: [3.0, 2.0, 1.0][min(t, 2)],
    "first_n(2)": lambda t: float(t < 2),
    "first_n(3, 2, 0.5)": lambda t: 2.0 if t < 3 else 0.5,
}


@pytest.fixture(scope="module")
def vector(demo):
    return torch.randn(demo.card.d_model, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("text", CLOSED_FORMS)
@pytest.mark.parametrize("cut", [0, 3, 5])
def test_factors_count_generated_tokens_from_each_rows_own_start(text, cut):
    schedule = Schedule.parse(text)
    factors = schedule.factors(Columns(cut, TOKENS.mask, TOKENS))
    for row, end in enumerate(TOKENS.prompt_end.tolist()):
        expected = [CLOSED_FORMS[text](column - end) if column >= end else schedule.start for column in range(cut, 8)]
        assert factors[row].tolist() == pytest.approx(expected, abs=1e-12)


def test_prompt_tokens_may_have_a_factor_of_their_own():
    factors = Schedule("linear", 2, prompt=0.25).factors(Columns(0, TOKENS.mask, TOKENS))
    assert factors[0].tolist() == [0.25] * 3 + [1.0, 0.5, 0.0, 0.0, 0.0]


def test_logits_equal_changes_weighted_by_hand(demo, vector):
    """Oracle: a torch hook that adds factor * vector, column by column."""
    tokens = pad(demo.encode(PROMPTS[:1], answers=["the red cake is"]))
    end, width = int(tokens.prompt_end[0]), tokens.ids.shape[1]
    factors = torch.tensor([0.5 if i < end else max(0.0, 1 - (i - end) / 3) for i in range(width)])
    handle = demo.backend.model.model.layers[3].register_forward_hook(lambda m, a, out: out + factors[:, None] * vector)
    by_hand = demo.logits(tokens)
    handle.remove()
    with Steerer({SITE: edits.add(vector)}, schedule=Schedule("linear", 3, prompt=0.5)).on(demo):
        torch.testing.assert_close(demo.logits(tokens), by_hand, atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", ["linear(4)", "cosine(6)", "first_n(2)"])
def test_the_same_tokens_with_and_without_cache_in_any_batch_on_every_backend(demo_models, vector, text):
    steerer = Steerer({SITE: edits.add(vector)}, schedule=Schedule.parse(text))
    answers = []
    for name, lens in demo_models.items():
        for use_cache, batch_size in ((True, 3), (False, 3), (True, 1)) if name == "hf" else ((True, 3),):
            with steerer.on(lens):
                answers.append(generate(lens, PROMPTS, Decoding(8, use_cache=use_cache), batch_size=batch_size))
    assert all(answer == answers[0] for answer in answers)
    with Steerer({SITE: edits.add(vector)}).on(demo_models["hf"]):
        assert generate(demo_models["hf"], PROMPTS, Decoding(8)) != answers[0]


def test_first_n_of_the_answer_is_the_rule_of_the_same_name(demo, vector):
    with Steerer({SITE: edits.add(vector)}, schedule=Schedule("first_n", 2, prompt=0.0)).on(demo):
        by_schedule = generate(demo, PROMPTS, Decoding(8))
    with Steerer({SITE: edits.add(vector)}, Where.first_n(2)).on(demo):
        assert generate(demo, PROMPTS, Decoding(8)) == by_schedule


def test_a_plain_constant_is_no_schedule_at_all(demo, vector):
    """Bit-identical, and allowed where columns are not known."""
    tokens = pad(demo.encode(PROMPTS), pad_id=demo.pad_id)
    with Steerer({SITE: edits.add(vector)}).on(demo):
        expected = demo.logits(tokens)
    with torch.no_grad(), Steerer({SITE: edits.add(vector)}, schedule=Schedule()).on(demo):
        assert torch.equal(demo.logits(tokens), expected)
        demo.backend.model(torch.tensor([[1, 5]]))
    with pytest.raises(SteeringError, match="run directly"), Steerer(
            {SITE: edits.add(vector)}, schedule=Schedule(start=0.5)).on(demo):
        demo.backend.model(torch.tensor([[1, 5]]))


def test_schedules_are_read_from_text():
    for text in CLOSED_FORMS:
        assert str(Schedule.parse(text)) == text
        assert Schedule.parse(str(Schedule.parse(text))) == Schedule.parse(text)
    assert Schedule.parse(Schedule("linear", 3)) == Schedule("linear", 3)
    assert Schedule.parse(str(Schedule(start=0.5))) == Schedule(start=0.5)


@pytest.mark.parametrize("text", ["linear", "linear(0)", "linear(2.5)", "linear(x)", "linear(1,2,3,4)", "step(3)", "",
                                  "constant(3)", "linear(2, nan)", "linear(inf)"])
def test_unknown_schedules_are_refused(text):
    with pytest.raises(ParameterError):
        Schedule.parse(text)


@pytest.mark.parametrize(("text", "message"), [
    ("step(3)", "unknown schedule 'step'; expected one of constant, linear(16), cosine(16), first_n(16)"),
    ("lineer(3)", "Did you mean 'linear(16)'?"), ("linear", "schedule 'linear' with n=0: all but constant take a positive n."),
    ("constant(3)", "schedule 'constant' with n=3: all but"), ("linear(x)", "cannot read schedule 'linear(x)'; expected for example linear(16)"),
    ("linear(2.5)", "cannot read schedule 'linear(2.5)'; n is a whole number, followed by start and end."),
    ("linear(1, 2, 3, 4)", "n is a whole number"), ("linear(2, 1, nan)", "must be finite, got (1.0, nan, 0.0)"),
])
def test_what_is_wrong_with_a_schedule_is_told(text, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        Schedule.parse(text)


def test_every_factor_must_be_finite_and_n_at_least_one():
    for change in ({"start": math.inf}, {"end": math.nan}, {"prompt": -math.inf}):
        with pytest.raises(ParameterError, match="factors of a schedule must be finite"):
            Schedule("linear", 2, **change)
    for n in (0, -1):
        with pytest.raises(ParameterError, match="take a positive n"):
            Schedule("cosine", n)
    assert Schedule("linear", 1).factors(Columns(0, TOKENS.mask, TOKENS))[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_texts_may_have_spaces_and_fewer_numbers():
    assert Schedule.parse("  linear( 4 , 2 )  ") == Schedule("linear", 4, 2.0, 0.0)
    assert Schedule.parse("constant(0, 0.5)") == Schedule(start=0.5)
    assert str(Schedule("linear", 4, 2.0)) == "linear(4, 2, 0)"
    assert str(Schedule("linear", 4, 1.0, 0.5)) == "linear(4, 1, 0.5)"


def test_plain_is_a_factor_of_one_everywhere():
    plain = [Schedule(), Schedule(prompt=1), Schedule(prompt=1.0)]
    others = [Schedule(start=2), Schedule(prompt=0.0), Schedule("linear", 2), Schedule("first_n", 2, 1, 1)]
    assert [one.is_plain for one in (*plain, *others)] == [True] * 3 + [False] * 4
    assert Schedule(start=0.5, prompt=0.0).factors(Columns(0, TOKENS.mask, TOKENS))[1].tolist() == [0.0] * 6 + [0.5] * 2
    for text in CLOSED_FORMS:
        assert Schedule.parse(text).factors(Columns(6, TOKENS.mask, TOKENS)).dtype == torch.float64
