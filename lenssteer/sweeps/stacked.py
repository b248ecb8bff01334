"""Sweeps in one batch: every setting has its rows, and edits of one method are one stacked edit."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.prompts import Prompt
from lenssteer.steering import Rowwise, Steerer, merged


def stacked_answers(
    model: LensModel,
    parts: Sequence[tuple[Steerer | None, int]],
    prompts: Sequence[Prompt],
    decoding: Decoding | None = None,
    *,
    template: str | None = None,
    system: str | None = None,
    batch_size: int | None = None,
    progress: str = "",
) -> list[list[str]]:
    """Answers to every prompt under every setting, whatever the settings are, in one run.

    Row i of the run is prompt i % P under setting i // P, so settings share batches, weights, kernel launches and, as
    far as their edits allow, the pass over the prompt; see `models.prefill`. Each steerer sees its own rows only, and
    a prompt is sampled with the same draws under every setting, so the answers equal those of one run a setting.

    Args:
        model: Unsteered.
        parts: Steerers, each with its number of settings; None is the unsteered model. A steerer of k settings is
            stacked: it has one edit a row, k times as many as there are prompts.
        prompts: Answered under every setting.
        decoding: How answers are drawn.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Returns:
        One list of answers a setting, in order.

    Raises:
        ParameterError: when there are no settings or prompts, or a steerer is stacked for another number of rows.
    """
    count = sum(settings for _, settings in parts)
    if not count or not prompts:
        raise ParameterError(f"a sweep needs prompts and settings; got {len(prompts)} and {count}.")
    rows = merged([(steerer, settings * len(prompts)) for steerer, settings in parts])
    alone = rows[0][0] if len(rows) == 1 else None
    with (alone or Rowwise(rows)).on(model):
        answers = generate(model, [*prompts] * count, decoding, template=template, system=system,
                           batch_size=batch_size, draws=[*range(len(prompts))] * count, progress=progress)
    return [answers[i * len(prompts) : (i + 1) * len(prompts)] for i in range(count)]


def sweep_answers(
    model: LensModel,
    steerer_for: Callable[[Float[Tensor, " rows"]], Steerer],
    amounts: Sequence[float],
    prompts: Sequence[Prompt],
    decoding: Decoding | None = None,
    *,
    template: str | None = None,
    system: str | None = None,
    batch_size: int | None = None,
    progress: str = "",
) -> dict[float, list[str]]:
    """Answers to every prompt at every amount of one method; see `stacked_answers`.

    Args:
        model: Unsteered.
        steerer_for: Makes a steerer from one amount a row, such as
            `lambda rows: calibration.steerer("selective", degrees=rows)`.
        amounts: Angles or coefficients, all different.
        prompts: Answered at every setting.
        decoding: How answers are drawn.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there are no settings or prompts, or a setting stands twice.
    """
    if not amounts or not prompts or len(set(amounts)) < len(amounts):
        raise ParameterError(f"a sweep needs prompts and different settings; got {len(prompts)} prompts, "
                             f"{len(amounts)} settings.")
    steerer = steerer_for(one_a_row(amounts, len(prompts)))
    answers = stacked_answers(model, [(steerer, len(amounts))], prompts, decoding, template=template, system=system,
                              batch_size=batch_size, progress=progress)
    return dict(zip(amounts, answers, strict=True))


def one_a_row(amounts: Sequence[float], prompts: int) -> Float[Tensor, " rows"]:
    """Every amount once a prompt, setting after setting."""
    return torch.tensor(list(amounts), dtype=torch.float64).repeat_interleave(prompts)
