"""Fluency: how likely the unsteered model finds an answer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.errors import ParameterError
from lenssteer.models import LensModel
from lenssteer.prompts import Prompt, batches, pad


def answer_nll(model: LensModel, prompts: Sequence[Prompt], answers: Sequence[str], *, template: str | None = None,
               system: str | None = None) -> Float64[Tensor, " n"]:
    """Mean negative log-likelihood of each answer's tokens under the model, in nats; NaN for an empty answer.

        nll = - mean_t log p(answer_t | prompt, answer_<t)        perplexity = exp(nll)

    Call it with the unsteered model: a steered model finds its own text fluent. Low values also come from text that
    repeats itself, so read it beside a measure of repetition.

    Args:
        model: Unsteered.
        prompts: What was asked.
        answers: One a prompt.
        template: Prompt format.
        system: System prompt.

    Raises:
        ParameterError: when there is not one answer a prompt.
    """
    if len(prompts) != len(answers):
        raise ParameterError(f"expected one answer for each of {len(prompts)} prompts, got {len(answers)}.")
    encoded = model.encode(prompts, template=template, system=system, answers=answers)
    found = torch.full((len(encoded),), torch.nan, dtype=torch.float64)
    for group in batches(encoded, tokens=1 << 13, rows=64):
        tokens = pad([encoded[i] for i in group], pad_id=model.pad_id, rows=group)
        logp = torch.log_softmax(model.logits(tokens)[:, :-1].double().cpu(), -1)
        scores = logp.gather(-1, tokens.ids[:, 1:].unsqueeze(-1))[..., 0]
        column = torch.arange(1, tokens.ids.shape[1]).unsqueeze(0)
        answered = (column >= tokens.prompt_end.unsqueeze(-1)) & tokens.mask[:, 1:]
        found[torch.tensor(group)] = -(scores * answered).sum(-1) / answered.sum(-1)
    return found
