"""How far steering moves what a model would say next: KL divergence from the unsteered model, token by token."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenssteer.errors import ParameterError, PromptError
from lenssteer.models import Decoding, LensModel, decode
from lenssteer.models.sizing import fitting
from lenssteer.prompts import Columns, Encoded, Prompt, Tokens, pad
from lenssteer.steering import Steerer, Together


@dataclass(frozen=True, eq=False)
class Divergence:
    """KL divergence of the steered from the unsteered model.

    Args:
        per_prompt: Mean over a prompt's positions, in nats.
        agreement: Share of positions, over all prompts, at which both models find the same token most likely.
        positions: How many positions were compared.
    """

    per_prompt: Float[Tensor, " prompts"]
    agreement: float
    positions: int

    @property
    def mean(self) -> float:
        """Mean over prompts, in nats."""
        return float(self.per_prompt.mean())


@dataclass(frozen=True, eq=False)
class Forced:
    """A batch of prompts, the answer tokens that are fed after them, and what the unsteered model predicts.

    Args:
        prompts: Prompt batch.
        answers: Answer tokens, padded on the right.
        mask: True at columns of prompt and answer.
        compared: True where a prediction counts: at the last prompt token, and at answer tokens.
        base: Log-probabilities of the unsteered model, on the CPU.
    """

    prompts: Tokens
    answers: Int[Tensor, "batch fed"]
    mask: Bool[Tensor, "batch seen"]
    compared: Bool[Tensor, "batch positions"]
    base: Float[Tensor, "batch positions vocab"]


@dataclass(frozen=True, eq=False)
class Reference:
    """Prompts with the unsteered model's greedy answers and its predictions along them; computed once, compared often.

    It holds prompts * tokens * vocabulary float32 numbers.
    """

    model: LensModel
    forced: tuple[Forced, ...]

    @classmethod
    def of(
        cls,
        model: LensModel,
        prompts: Sequence[Prompt],
        *,
        answers: Sequence[str] | None = None,
        tokens: int = 16,
        template: str | None = None,
        system: str | None = None,
        batch_size: int | None = None,
    ) -> "Reference":
        """Run the unsteered model.

        Args:
            model: Unsteered.
            prompts: Texts or conversations.
            answers: Texts to follow in place of the model's own greedy answers.
            tokens: Most positions a prompt: the last prompt token, which predicts the first answer token, and the
                answer tokens that follow. A greedy answer that stops early ends with the prediction of the stop.
            template: Prompt format.
            system: System prompt for all.
            batch_size: Most prompts of a batch; None finds it from the memory that is free.

        Raises:
            ParameterError: when `tokens` is not positive, or there is not one answer a prompt.
            PromptError: when an answer has no token, or prompt and answer do not fit the model's context.
        """
        if tokens < 1 or (answers is not None and len(answers) != len(prompts)):
            raise ParameterError(f"expected tokens >= 1 and one answer a prompt, got tokens={tokens} and "
                                 f"{len(answers or ())} answers for {len(prompts)} prompts.")
        encoded = model.encode(prompts, template=template, system=system)
        fed = _given(model, prompts, answers, tokens, template, system) if answers is not None else None
        if max(len(one.ids) for one in encoded) + tokens - 1 > model.card.n_ctx:
            raise PromptError(f"a prompt and {tokens} answer tokens are more than the {model.card.n_ctx} the model "
                              "takes; shorten the prompts or lower tokens=.")

        def force(group: list[int]) -> Forced:
            batch = pad([encoded[i] for i in group], pad_id=model.pad_id, rows=group)
            chosen = [fed[i] for i in group] if fed is not None else _greedy(model, batch, tokens)
            return _with_base(model, batch, chosen)

        forced = [one for _, one in fitting(model, encoded, force, rows=batch_size, new=tokens, every_column=True)]
        return cls(model, tuple(forced))

    def divergence(self, steerer: Steerer | Together | None = None) -> Divergence:
        """Compare a steerer with the unsteered model, prompt by prompt; row i of a stacked edit steers prompt i.

            KL = sum_v p(v) (log p(v) - log q(v))      p unsteered, q steered

        Args:
            steerer: None compares the model as it is now, inside a `with` block of one's own.
        """
        prompts = sum(len(one.prompts.rows) for one in self.forced)
        per_prompt, same, positions = torch.zeros(prompts, dtype=torch.float64), 0, 0
        with nullcontext() if steerer is None else steerer.on(self.model):
            for one in self.forced:
                steered = _log_probs(self.model, one.prompts, one.answers, one.mask)
                base, counted = one.base.to(steered.device), one.compared.to(steered.device)
                self.model.require_finite(torch.where(counted, steered.amax(-1), 0.0))
                gap = torch.where(base > -torch.inf, base - steered, 0.0)
                kl = torch.where(counted, (base.exp() * gap).sum(-1), 0.0).double().sum(-1).cpu()
                per_prompt[one.prompts.rows] = (kl / one.compared.sum(-1)).clamp_min(0)
                same += int(((base.argmax(-1) == steered.argmax(-1)) & counted).sum())
                positions += int(one.compared.sum())
        return Divergence(per_prompt, same / positions, positions)


def next_token_divergence(
    model: LensModel,
    steerer: Steerer | Together,
    prompts: Sequence[Prompt],
    *,
    answers: Sequence[str] | None = None,
    tokens: int = 16,
    template: str | None = None,
    system: str | None = None,
    batch_size: int | None = None,
) -> Divergence:
    """KL divergence between unsteered and steered predictions along the unsteered answers.

    The parameters are those of `Reference.of`, which serves many steerers at the cost of one.
    """
    reference = Reference.of(model, prompts, answers=answers, tokens=tokens, template=template, system=system,
                             batch_size=batch_size)
    return reference.divergence(steerer)


def _given(model: LensModel, prompts: Sequence[Prompt], answers: Sequence[str], tokens: int, template: str | None,
           system: str | None) -> list[list[int]]:
    """What is fed of given answers: all but the last token that is predicted."""
    encoded: list[Encoded] = model.encode(prompts, template=template, system=system, answers=answers)
    ids = [list(one.ids[one.prompt_end :]) for one in encoded]
    empty = [i for i, answer in enumerate(ids) if not answer]
    if empty:
        raise PromptError(f"answer {empty[0]} has no token; give it some text.")
    return [answer[: min(len(answer), tokens) - 1] for answer in ids]


def _greedy(model: LensModel, batch: Tokens, tokens: int) -> list[list[int]]:
    return decode(model, batch, Decoding(tokens - 1)) if tokens > 1 else [[] for _ in batch.rows]


def _with_base(model: LensModel, batch: Tokens, fed: list[list[int]]) -> Forced:
    width = max(map(len, fed))
    answers = torch.tensor([answer + [model.pad_id] * (width - len(answer)) for answer in fed]).reshape(len(fed), width)
    real = torch.tensor([[i < len(answer) for i in range(width)] for answer in fed]).reshape(len(fed), width).bool()
    mask = torch.cat([batch.mask, real], -1)
    base = _log_probs(model, batch, answers.long(), mask).cpu()
    compared = torch.cat([torch.ones(len(fed), 1, dtype=torch.bool), real], -1)
    model.require_finite(torch.where(compared, base.amax(-1), 0.0))
    return Forced(batch, answers.long(), mask, compared, base)


def _log_probs(model: LensModel, prompts: Tokens, answers: Int[Tensor, "batch fed"],
               mask: Bool[Tensor, "batch seen"]) -> Float[Tensor, "batch positions vocab"]:
    """Predictions at the last prompt token and at the answer tokens, in the two passes that decoding makes of them."""
    cache = model.backend.new_cache(len(answers)) if answers.shape[1] else None
    logits = [model.run(prompts.ids, Columns(0, prompts.mask, prompts), cache)[:, -1:]]
    if answers.shape[1]:
        logits.append(model.run(answers, Columns(prompts.ids.shape[1], mask, prompts), cache, keep="all"))
    together = torch.cat(logits, 1)
    return torch.log_softmax(together if together.dtype == torch.float64 else together.float(), -1)
