import numpy as np
import pytest
import torch

from lenssteer.errors import DirectionError, ParameterError, PromptError
from lenssteer.prompts import ContrastSet
from lenssteer.site import Site
from tests.models.tiny_models import tiny_model

SITES = [Site(layer, "resid_pre") for layer in (0, 2, 5)]


@pytest.fixture(scope="module")
def contrast(demo_contrast):
    return ContrastSet(demo_contrast.positive[:19], demo_contrast.negative[:12])


@pytest.fixture(scope="module")
def grid(demo, contrast):
    from lenssteer.capture.grid import capture_grid

    return capture_grid(demo, contrast, SITES)


def hidden_states(demo, prompts, offset):
    """Mean resid_pre at an offset in float64 from transformers alone, one prompt at a time, no padding."""
    rows = []
    for prompt in prompts:
        ids = demo.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                                 tokenize=True, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.no_grad():
            states = demo.backend.model(ids, output_hidden_states=True).hidden_states
        rows.append(np.stack([states[site.layer][0, offset].double().numpy() for site in SITES]))
    return np.mean(rows, 0)


def test_means_equal_hidden_states_of_transformers(demo, contrast, grid):
    assert grid.positions == (-2, -1), "the demo template closes a turn with two tokens"
    assert grid.counts == (19, 12)
    for k, offset in enumerate(grid.positions):
        np.testing.assert_allclose(grid.positive[:, k], hidden_states(demo, contrast.positive, offset), atol=1e-5)
        np.testing.assert_allclose(grid.negative[:, k], hidden_states(demo, contrast.negative, offset), atol=1e-5)


def test_one_pass_gives_what_single_positions_give(demo, contrast, grid):
    from lenssteer.capture import capture_moments

    for k, offset in enumerate(grid.positions):
        alone = capture_moments(demo, contrast, SITES, f"offset({offset})")
        torch.testing.assert_close(grid.positive[:, k], alone.positive.mean.double(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(grid.negative[:, k], alone.negative.mean.double(), atol=1e-6, rtol=1e-6)


def test_the_prompts_run_once(demo, contrast, monkeypatch):
    from lenssteer.capture.grid import capture_grid

    rows = []
    run = demo.run
    monkeypatch.setattr(demo, "run", lambda ids, *a, **k: rows.append(len(ids)) or run(ids, *a, **k))
    capture_grid(demo, contrast, SITES, (-3, -2, -1))
    assert sum(rows) == 19 + 12


def test_batches_and_order_change_nothing(demo, contrast, grid):
    from lenssteer.capture.grid import capture_grid

    other = capture_grid(demo, contrast, SITES[::-1], [-1, -2], batch_tokens=1)
    assert (other.sites, other.positions) == (grid.sites, grid.positions)
    torch.testing.assert_close(other.positive, grid.positive, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("template", "expected"), [("none", (-1,)), ("{prompt} <end> <end> <user>", (-3, -2, -1))])
def test_positions_are_the_template_tokens_after_the_instruction(demo, contrast, template, expected):
    from lenssteer.capture.grid import capture_grid

    assert capture_grid(demo, contrast, SITES[:1], template=template).positions == expected


def test_the_shortest_ending_counts(demo):
    from lenssteer.capture.grid import after_instruction
    from lenssteer.prompts import Encoded

    assert after_instruction([Encoded((1,) * 9, (2, 4), 9), Encoded((1,) * 9, (2, 6), 9)]) == [-3, -2, -1]


def test_candidates_are_differences_in_means(grid):
    direction = grid.candidate(SITES[1], -1)
    difference = (grid.positive - grid.negative)[1, 1].numpy()
    assert direction.length == pytest.approx(np.linalg.norm(difference), rel=1e-12)
    np.testing.assert_allclose(direction.raw, difference, atol=1e-12)
    np.testing.assert_allclose(direction.vector, difference / np.linalg.norm(difference), atol=1e-12)
    assert direction.positive - direction.negative == pytest.approx(direction.length)
    assert direction.positive > direction.negative


def test_template_tokens_before_the_first_block_have_no_direction(grid):
    assert grid.usable.tolist() == [[False, False], [True, True], [True, True]]
    with pytest.raises(DirectionError, match=r"same mean at resid_pre\.0, position -2"):
        grid.candidate(SITES[0], -2)
    for site, position in ((Site(1, "resid_pre"), -1), (SITES[1], -7)):
        with pytest.raises(DirectionError, match="was not captured"):
            grid.candidate(site, position)


def test_what_cannot_be_captured_is_refused(demo, contrast):
    from lenssteer.capture.grid import capture_grid

    for sites, positions in (([], None), (SITES, []), (SITES, [-1, -1]), ([SITES[0]] * 2, None), (SITES, [0])):
        with pytest.raises(ParameterError):
            capture_grid(demo, contrast, sites, positions)
    with pytest.raises(PromptError, match="too short"):
        capture_grid(demo, contrast, SITES, [-100])


def test_a_longer_ending_of_another_template():
    from lenssteer.capture.grid import capture_grid
    from lenssteer.models import wrap

    model, tokenizer = tiny_model("gemma2")
    lens = wrap(model, tokenizer)
    contrast = ContrastSet(("How do I bake bread?", "Name a river."), ("Steal a car.", "Why is the sky blue?"))
    grid = capture_grid(lens, contrast, lens.sites("resid_pre"))
    after = lens.tokenizer("<end_of_turn>\n<start_of_turn>model\n", add_special_tokens=False)["input_ids"]
    assert grid.positions == tuple(range(-len(after), 0))
