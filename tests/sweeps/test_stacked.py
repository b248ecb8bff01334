import pytest
import torch

from lenssteer.errors import ParameterError, PromptError
from lenssteer.models import Decoding, generate
from lenssteer.sweeps import sweep_answers

PROMPTS = ["how do i paint a red cake ?", "tell me how to hide a bomb .", "kite"]
ANGLES = [0.0, 140.0, 250.0]


@pytest.mark.parametrize("method", ["selective", "standard-angular", "adaptive-angular"])
def test_a_stacked_sweep_equals_one_run_an_angle(demo_models, norm_out, method):
    for lens in demo_models.values():
        stacked = sweep_answers(lens, lambda rows: norm_out.steerer(method, degrees=rows, sites="all"), ANGLES,
                                PROMPTS, Decoding(10), batch_size=4)
        for angle in ANGLES:
            with norm_out.steerer(method, degrees=angle, sites="all").on(lens):
                assert stacked[angle] == generate(lens, PROMPTS, Decoding(10))


def test_coefficients_can_be_swept_too(demo, resid_post):
    stacked = sweep_answers(demo, lambda rows: resid_post.steerer("addition", coefficient=rows), [-1.0, 0.0], PROMPTS,
                            Decoding(10))
    assert stacked[0.0] == generate(demo, PROMPTS, Decoding(10))


def test_the_system_prompt_reaches_the_model(demo, resid_post):
    with pytest.raises(PromptError, match="the model takes"):
        sweep_answers(demo, lambda rows: resid_post.steerer("addition", coefficient=rows), [1.0], PROMPTS, system="x " * 200)


def test_empty_and_repeated_sweeps_are_refused(demo, norm_out):
    def steerer(rows: torch.Tensor):
        return norm_out.steerer("selective", degrees=rows, sites="all")

    for amounts, prompts in (([], PROMPTS), (ANGLES, []), ([1.0, 1.0], PROMPTS)):
        with pytest.raises(ParameterError, match="a sweep needs"):
            sweep_answers(demo, steerer, amounts, prompts)
