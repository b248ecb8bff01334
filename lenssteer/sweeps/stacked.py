"""Sweeps in one batch: every setting of a method is a row of one stacked edit."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.prompts import Prompt
from lenssteer.steering import Steerer


def sweep_answers(
    model: LensModel,
    steerer_for: Callable[[Float[Tensor, " rows"]], Steerer],
    amounts: Sequence[float],
    prompts: Sequence[Prompt],
    decoding: Decoding | None = None,
    *,
    template: str | None = None,
    system: str | None = None,
    batch_size: int = 256,
    progress: str = "",
) -> dict[float, list[str]]:
    """Answers to every prompt at every setting.

    Row i of the stack is prompt i % P at setting i // P, so settings share batches, weights and kernel launches. The
    answers equal those of one run a setting.

    Args:
        model: Unsteered.
        steerer_for: Makes a steerer from one amount a row, such as
            `lambda rows: calibration.steerer("selective", degrees=rows)`.
        amounts: Angles or coefficients, all different.
        prompts: Answered at every setting.
        decoding: How answers are drawn.
        template: Prompt format.
        system: System prompt.
        batch_size: Most rows of a batch.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there are no settings or prompts, or a setting stands twice.
    """
    if not amounts or not prompts or len(set(amounts)) < len(amounts):
        raise ParameterError(f"a sweep needs prompts and different settings; got {len(prompts)} prompts, "
                             f"{len(amounts)} settings.")
    rows = torch.tensor(list(amounts), dtype=torch.float64).repeat_interleave(len(prompts))
    with steerer_for(rows).on(model):
        answers = generate(model, [*prompts] * len(amounts), decoding, template=template, system=system,
                           batch_size=batch_size, progress=progress)
    return {amount: answers[i * len(prompts) : (i + 1) * len(prompts)] for i, amount in enumerate(amounts)}
