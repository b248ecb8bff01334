"""A sampled answer depends on its prompt, its setting and the seed: not on batches, order, neighbours or interruptions."""

import random

import pytest

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, generate
from lenssteer.sweeps import Grid, run_sweep
from lenssteer.sweeps.stacked import stacked_answers

SAMPLED = Decoding(8, temperature=1.5, seed=5)
AMOUNTS = (0.0, 90.0, 200.0)


@pytest.fixture(scope="module")
def prompts():
    from lenssteer.models.demo.world import requests

    return [p.text for p in requests("selection", "harmful")[:5]]


@pytest.fixture(scope="module")
def alone(demo, norm_out, prompts):
    """The oracle: every prompt by itself, under one steerer, with its own seed."""
    found = {}
    for amount in AMOUNTS:
        with norm_out.steerer("selective", degrees=amount).on(demo):
            found[amount] = [generate(demo, [prompt], Decoding(8, temperature=1.5, seed=5 + i))[0] for i, prompt in enumerate(prompts)]
    return found


def test_the_answers_are_sampled(demo, norm_out, prompts, alone):
    """Or what follows would hold for greedy answers too."""
    assert alone[90.0] != [generate(demo, [prompt], Decoding(8))[0] for prompt in prompts]
    other = stacked_answers(demo, [(norm_out.steerer("selective", degrees=90.0), 1)], prompts, Decoding(8, temperature=1.5, seed=6))
    assert other[0] != alone[90.0]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_stacked_is_one_by_one(demo, norm_out, prompts, alone, batch_size):
    parts = [(norm_out.steerer("selective", degrees=amount), 1) for amount in AMOUNTS]
    found = stacked_answers(demo, parts, prompts, SAMPLED, batch_size=batch_size)
    assert dict(zip(AMOUNTS, found, strict=True)) == alone


def test_the_order_of_settings_and_neighbours_do_not_matter(demo, norm_out, prompts, alone):
    for seed in range(3):
        shuffled = random.Random(seed).sample(AMOUNTS, 2)
        parts = [(None, 1), *((norm_out.steerer("selective", degrees=amount), 1) for amount in shuffled)]
        found = stacked_answers(demo, parts, prompts, SAMPLED)[1:]
        assert dict(zip(shuffled, found, strict=True)) == {amount: alone[amount] for amount in shuffled}


def swept(demo, norm_out, prompts, folder, amounts, **options):
    grid = Grid("selective", tuple(amounts), decoding=SAMPLED)
    rows = run_sweep(demo, norm_out, grid, prompts, folder, lambda asked, answers: {"length": [len(one) for one in answers]}, measure="length",
                     keep_answers=True, **options)
    return {row.amount: row.answers for row in rows if row.amount is not None}


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"batch_size": 7}], ids=str)
def test_a_sweep_is_one_by_one(demo, norm_out, prompts, alone, tmp_path, options):
    assert swept(demo, norm_out, prompts, tmp_path / "run", AMOUNTS, **options) == alone


def test_shuffled_cells_and_a_resumed_sweep_give_the_same(demo, norm_out, prompts, alone, tmp_path):
    assert swept(demo, norm_out, prompts, tmp_path / "shuffled", reversed(AMOUNTS)) == alone
    path = tmp_path / "shuffled/rows.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]) + '{"cell": "torn')
    assert swept(demo, norm_out, prompts, tmp_path / "shuffled", AMOUNTS, batch_size=2) == alone


def test_draws_are_one_a_prompt(demo, prompts):
    with pytest.raises(ParameterError, match="expected one draw a prompt, 5; got 2"):
        generate(demo, prompts, SAMPLED, draws=[0, 1])
    twice = generate(demo, [prompts[0]] * 2, SAMPLED, draws=[3, 3])
    assert twice[0] == twice[1]
