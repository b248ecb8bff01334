"""The refusal metric: log-odds of the tokens a refusal starts with, at the last prompt token."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lenssteer.errors import ParameterError, PromptError
from lenssteer.models import LensModel
from lenssteer.models.sizing import fitting
from lenssteer.prompts import Columns, Encoded, Prompt, pad
from lenssteer.steering import Steerer

LEAST_SEPARATION = 0.2
"""Two sets of prompts whose mean first-token distributions differ by less (total variation) are not told apart."""
ARDITI_EPSILON = 1e-8
COMPATS = (None, "arditi")


def require_compat(compat: str | None) -> None:
    """Refuse an unknown `compat`.

    Raises:
        ParameterError: with the known ones.
    """
    if compat not in COMPATS:
        raise ParameterError(f"unknown compat {compat!r}; expected None (the paper) or 'arditi' (the authors' code).")


def refusal_score(
    logits: Float[Tensor, "*batch vocab"], tokens: Sequence[int], *, compat: str | None = None
) -> Float64[Tensor, "*batch"]:
    """Log-odds that the next token is one of `tokens`.

        log P_R - log(1 - P_R)        P_R = sum of softmax(logits) over tokens

    Computed from logits as logsumexp over `tokens` minus logsumexp over all others, so nothing saturates;
    compat="arditi" computes log(P_R + 1e-8) - log(1 - P_R + 1e-8), which lies within +-18.4.

    Args:
        logits: Logits, or log-probabilities.
        tokens: Token ids; at least one, not the whole vocabulary.
        compat: "arditi" for the authors' epsilon.

    Raises:
        ParameterError: when a token id does not exist, or none or all are given.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 2.3 and appendix B.
    """
    require_compat(compat)
    vocab = logits.shape[-1]
    chosen = sorted(set(tokens))
    if not chosen or len(chosen) == vocab or chosen[0] < 0 or chosen[-1] >= vocab:
        raise ParameterError(f"expected some, not all, token ids in 0 to {vocab - 1}; got {chosen[:5]}.")
    others = torch.ones(vocab, dtype=torch.bool, device=logits.device)
    others[chosen] = False
    wide = logits.double()
    yes, no = wide[..., ~others].logsumexp(-1), wide[..., others].logsumexp(-1)
    if compat is None:
        return yes - no
    inside = torch.sigmoid(yes - no)
    return torch.log(inside + ARDITI_EPSILON) - torch.log(1 - inside + ARDITI_EPSILON)


def next_token_logits(
    model: LensModel,
    encoded: Sequence[Encoded],
    *,
    rows: Sequence[int] | None = None,
    batch_size: int | None = None,
    progress: str = "",
) -> Iterator[tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]]:
    """Logits at the last prompt token, batch by batch: which prompts, and one line each, on the CPU.

    Args:
        model: Steered or not.
        encoded: Prompts without answers.
        rows: Which row of a stacked edit steers each prompt; prompt i is row i by default.
        batch_size: Most prompts of a batch; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.
    """

    def last(group: list[int]) -> Tensor:
        tokens = pad([encoded[i] for i in group], pad_id=model.pad_id,
                     rows=group if rows is None else [rows[i] for i in group])
        return model.run(tokens.ids, Columns(0, tokens.mask, tokens))[:, -1].cpu()

    for group, logits in fitting(model, encoded, last, rows=batch_size, progress=progress):
        yield torch.tensor(group), logits.float() if logits.dtype != torch.float64 else logits


def refusal_log_odds(
    model: LensModel,
    prompts: Sequence[Prompt],
    tokens: Sequence[int],
    steerer: Steerer | None = None,
    *,
    compat: str | None = None,
    template: str | None = None,
    system: str | None = None,
    progress: str = "",
) -> Float64[Tensor, " prompts"]:
    """The refusal metric of every prompt.

    Args:
        model: The model; already steered, or steered here by `steerer`.
        prompts: Texts or conversations.
        tokens: First tokens of refusals; see `refusal_tokens`.
        steerer: Edits for the length of this call.
        compat: See `refusal_score`.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when the tokens are none of the model's.
        SteeringError: when the steerer does not fit.
    """
    encoded = model.encode(prompts, template=template, system=system)
    scores = torch.zeros(len(encoded), dtype=torch.float64)
    with steerer.on(model) if steerer is not None else nullcontext():
        for index, logits in next_token_logits(model, encoded, progress=progress):
            scores[index] = refusal_score(logits, tokens, compat=compat)
    return scores


def refusal_tokens(
    model: LensModel,
    refused: Sequence[Prompt],
    complied: Sequence[Prompt],
    *,
    share: float | int = 0.9,
    template: str | None = None,
    system: str | None = None,
    progress: str = "",
) -> tuple[int, ...]:
    """The tokens that open refusals: those whose mean first-token probability is higher on refused prompts.

        raised(t) = max(mean p(t | refused) - mean p(t | complied), 0)

    The smallest set that covers `share` of the raised mass is taken, the most raised token first.

    Args:
        model: Unsteered.
        refused: Prompts the model refuses.
        complied: Prompts it answers.
        share: Of the raised mass that the set must cover, above 0, at most 1.
        template: Prompt format; see `lenssteer.prompts.chat`.
        system: System prompt for all.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when `share` is out of range.
        PromptError: when the raised mass is below 0.2, so first tokens do not tell the prompts apart.

    Source: our own; Arditi et al. 2024, arXiv:2406.11717, appendix B, pick the tokens of each model by eye.
    """
    if not 0 < share <= 1:
        raise ParameterError(f"share must be above 0 and at most 1, got {share}.")
    plus, minus = (_mean_probability(model, model.encode(prompts, template=template, system=system), progress)
                   for prompts in (refused, complied))
    raised, order = (plus - minus).clamp_min(0).sort(descending=True)
    separation = raised.sum().item()
    if not separation >= LEAST_SEPARATION:
        raise PromptError(f"first tokens hardly differ between refused and complied prompts (total variation "
                          f"{separation:.2f}, expected at least {LEAST_SEPARATION}); does this model refuse the "
                          "positive prompts in this template? Otherwise name the tokens of a refusal with tokens=.")
    count = int((raised.cumsum(0) < share * separation * (1 - 1e-12)).sum()) + 1
    return tuple(order[:count].tolist())


def _mean_probability(model: LensModel, encoded: Sequence[Encoded], progress: str) -> Float64[Tensor, " vocab"]:
    total = sum(torch.softmax(logits.double(), -1).sum(0)
                for _, logits in next_token_logits(model, encoded, progress=progress))
    return torch.as_tensor(total) / len(encoded)
