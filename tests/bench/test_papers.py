import numpy as np
import pytest
import torch

from lenssteer.bench.headline import agreement
from lenssteer.bench.papers import Swept, answer, best_angle, calibrated, steered
from lenssteer.models import Decoding, generate
from lenssteer.prompts import ContrastSet


@pytest.fixture(scope="module")
def small(demo_contrast):
    return ContrastSet(demo_contrast.positive[:20], demo_contrast.negative[:20])


@pytest.fixture(scope="module")
def procedure(demo, small):
    return calibrated(demo, small)


def test_the_direction_is_that_of_calibrate(demo, small, procedure):
    from lenssteer.recipe import calibrate

    ours = calibrate(demo, small, sites="norm_out")
    assert abs(float(procedure.basis[0].double() @ ours.direction.vector)) > 0.999
    assert abs(float(procedure.basis[1].double() @ ours.plane.basis[1])) > 0.99


def test_the_dense_form_is_the_equation(procedure):
    """h' = h + B (R c - c), token by token, in NumPy."""
    module, h = procedure.steered[0], torch.randn(1, 3, procedure.basis.shape[1])
    plain = module(h)
    with steered(procedure, 70.0):
        found = module(h)
    basis, x = procedure.basis.double().numpy(), plain.detach().double().numpy()
    a = np.radians(70)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    c = x @ basis.T
    np.testing.assert_allclose(found.detach().numpy(), x + (c @ turn.T - c) @ basis, atol=2e-5)
    torch.testing.assert_close(module(h), plain, rtol=0, atol=0)


def test_its_answers_are_those_of_generate(demo, small):
    prompts = list(small.positive[:2])
    assert [answer(demo, prompt, 8) for prompt in prompts] == generate(demo, prompts, Decoding(8))


def test_every_angle_is_scored(demo, small):
    found = best_angle(demo, small, small.positive[:2], [0.0, 180.0], 4,
                       lambda _prompts, answers: [len(answers), None])
    assert found.means == {0.0: 1.0, 180.0: 1.0}


def test_a_plane_of_the_other_sign_turns_the_other_way():
    basis = torch.eye(2, 4, dtype=torch.float64)
    swept = Swept({0.0: 0.1, 80.0: 0.9}, basis)
    assert swept.seen_in(basis) == swept.means
    assert swept.seen_in(basis * torch.tensor([[1.0], [-1.0]])) == {0.0: 0.1, 280.0: 0.9}


def test_agreement_is_one_step_around_the_circle():
    means = {0.0: 1.0, 10.0: 0.5, 350.0: 0.5}
    assert agreement(means, 350.0, 10.0)["same_angle"]
    assert not agreement(means, 340.0, 10.0)["same_angle"]
    assert not agreement(means, None, 10.0)["same_angle"]
    assert agreement(means, 10.0, 10.0)["score_at_ours"] == 0.5
