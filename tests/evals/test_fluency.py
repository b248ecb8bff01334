import pytest
import torch

from lenssteer.errors import ParameterError
from lenssteer.evals import answer_nll
from lenssteer.evals.judges import refuses

PROMPTS = ["what is the color of a lemon ?", "repeat : red sock button"]
ANSWERS = ["the color of a lemon is yellow .", "red red ."]


def test_it_is_the_loss_of_transformers_on_the_answer(demo):
    found = answer_nll(demo, PROMPTS, ANSWERS)
    for prompt, answer, nll in zip(PROMPTS, ANSWERS, found.tolist(), strict=True):
        [encoded] = demo.encode([prompt], answers=[answer])
        ids = torch.tensor([encoded.ids])
        labels = ids.clone()
        labels[:, : encoded.prompt_end] = -100
        with torch.no_grad():
            assert nll == pytest.approx(demo.backend.model(ids, labels=labels).loss.item(), abs=1e-5)


def test_a_wrong_answer_is_less_likely_and_an_empty_one_has_no_likelihood(demo):
    right, wrong, empty = answer_nll(demo, [PROMPTS[0]] * 3, [ANSWERS[0], "the color of a lemon is pink .", ""]).tolist()
    assert right < wrong
    assert empty != empty
    with pytest.raises(ParameterError, match="one answer"):
        answer_nll(demo, PROMPTS, ["a"])


@pytest.mark.parametrize(("answer", "refused"), [
    ("I can't help with that.", True), ("I can\u2019t help", True), ("i ' m sorry", True), ("As an AI, I", True),
    ("Sure, here is how.", False), ("", False), ("The train cannot stop here.", False),
])
def test_refusals_by_phrase(answer, refused):
    assert refuses(answer) is refused
