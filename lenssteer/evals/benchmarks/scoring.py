"""Log-probabilities of given continuations, through the one token path.

A context is the prompt and a continuation the answer: `Where("generated")`, gates and schedules act as they do while
decoding. The context runs once, whatever the number of its continuations; each continuation follows it from a copy of
the cache. The last token of a continuation is predicted but not fed, so no edit meets it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenssteer.engines.engine import AnswerScores
from lenssteer.errors import PromptError
from lenssteer.models import LensModel
from lenssteer.models.sizing import in_halves, usual_rows
from lenssteer.progress import track
from lenssteer.prompts import Columns, Encoded, Tokens, pad


@dataclass(frozen=True)
class Continuation:
    """What is scored after what.

    Args:
        context: Token ids of the prompt, and where its instruction stands.
        ids: Token ids of the answer.
    """

    context: Encoded
    ids: tuple[int, ...]

    @property
    def encoded(self) -> Encoded:
        """Prompt and answer in one."""
        return replace(self.context, ids=self.context.ids + self.ids)


class TokenScores(AnswerScores):
    """A continuation under a model; see `AnswerScores`."""

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation."""
        return float(torch.tensor(self.log_probs).sum())


def fit_context(context: Sequence[int], ids: Sequence[int], instruction: tuple[int, int], n_ctx: int) -> Continuation:
    """A continuation with so much of its context, from the right, as the model takes.

    All but the last token of the answer are fed: context and answer may together be one token longer than `n_ctx`.

    Raises:
        PromptError: when context or answer is empty, or the answer alone is too long.
    """
    if not context or not 0 < len(ids) <= n_ctx:
        raise PromptError(f"cannot score {len(ids)} answer tokens after {len(context)} context tokens; the model takes "
                          f"1 to {n_ctx} answer tokens after at least one.")
    kept = list(context)[-(n_ctx + 1 - len(ids)):]
    cut = len(context) - len(kept)
    start, end = (max(place - cut, 0) for place in instruction)
    return Continuation(Encoded(tuple(kept), (start, end), len(kept)), tuple(ids))


def score_continuations(model: LensModel, wanted: Sequence[Continuation], *, rows: int | None = None, top: int = 0,
                        progress: str = "") -> list[TokenScores]:
    """Score continuations, in the order given, steered as the model is now.

    Args:
        model: Steered or not.
        wanted: Continuations; those of equal context share its pass.
        rows: Most continuations of a batch, as long as one context has no more; None for as many as are usual.
        top: How many of the most likely ids to name at each token.
        progress: Label of a progress bar; "" for none.
    """
    after = by_context(wanted)
    found: dict[int, TokenScores] = {}

    def score(group: list[Encoded]) -> dict[int, TokenScores]:
        places = [i for context in group for i in after[context]]
        which = torch.tensor([row for row, context in enumerate(group) for _ in after[context]])
        tokens = pad(group, pad_id=model.pad_id)
        return dict(zip(places, _batch(model, tokens, which, [wanted[i].ids for i in places], top), strict=True))

    for group in track(context_batches(wanted, after, rows or usual_rows(model), model.card.n_ctx), progress):
        for _, scores in in_halves(score, group):
            found |= scores
    return [found[i] for i in range(len(wanted))]


def by_context(wanted: Sequence[Continuation]) -> dict[Encoded, list[int]]:
    """Which continuations follow each context."""
    after: dict[Encoded, list[int]] = defaultdict(list)
    for i, one in enumerate(wanted):
        after[one.context].append(i)
    return after


def context_batches(wanted: Sequence[Continuation], after: dict[Encoded, list[int]], rows: int,
                    n_ctx: int) -> list[list[Encoded]]:
    """Contexts grouped by length, longest first, so that padded rows stay within the model's context."""
    groups: list[list[Encoded]] = []
    held = longest = 0
    for context in sorted(after, key=lambda one: -len(one.ids)):
        answers = [len(wanted[i].ids) for i in after[context]]
        longest = max(longest, *answers)
        if not groups or held + len(answers) > rows or len(groups[-1][0].ids) + longest - 1 > n_ctx:
            groups.append([])
            held, longest = 0, max(answers)
        groups[-1].append(context)
        held += len(answers)
    return groups


def _batch(model: LensModel, contexts: Tokens, which: Int[Tensor, " answers"], answers: list[tuple[int, ...]],
           top: int) -> Iterator[TokenScores]:
    """Scores of a batch in the two passes that decoding makes: the contexts, then the answers after them."""
    cache = model.backend.new_cache(len(contexts.ids)) if max(map(len, answers)) > 1 else None
    first = model.run(contexts.ids, Columns(0, contexts.mask, contexts), cache)[:, -1]
    long = [row for row, ids in enumerate(answers) if len(ids) > 1]
    rest = _follow(model, contexts, which[long], [answers[row][:-1] for row in long], cache) if long else first[:0]
    following = dict(zip(long, rest, strict=True))
    for row, ids in enumerate(answers):
        logits = first[which[row]].unsqueeze(0)
        if row in following:
            logits = torch.cat([logits, following[row][: len(ids) - 1]])
        yield _scores(logits, torch.tensor(ids), top)


def _follow(model: LensModel, contexts: Tokens, which: Int[Tensor, " answers"], fed: list[tuple[int, ...]],
            cache: object) -> Float[Tensor, "answers fed vocab"]:
    """Logits at answer tokens, padded on the right, after copies of their contexts."""
    width = max(map(len, fed))
    ids = torch.tensor([[*one, *[model.pad_id] * (width - len(one))] for one in fed])
    real = torch.arange(width) < torch.tensor([len(one) for one in fed]).unsqueeze(-1)
    rows = contexts.take(which)
    copied = model.backend.take_rows(cache, which.to(model.device))
    return model.run(ids, Columns(contexts.ids.shape[1], torch.cat([rows.mask, real], -1), rows), copied, keep="all")


def _scores(logits: Float[Tensor, "answer vocab"], ids: Int[Tensor, " answer"], top: int) -> TokenScores:
    wide = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), -1).cpu()
    picked = wide.gather(-1, ids.unsqueeze(-1))[:, 0]
    best = wide.topk(top, -1) if top else None
    named = () if best is None else tuple(
        tuple(zip(row.tolist(), values.tolist(), strict=True)) for row, values in zip(best.indices, best.values))
    return TokenScores(tuple(picked.tolist()), bool((wide.argmax(-1) == ids).all()), named)
