"""What lm-eval asks of a language model, answered by workers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lenssteer.cluster.capturing import in_order
from lenssteer.cluster.pool import Pool
from lenssteer.cluster.remote import RemoteModel
from lenssteer.cluster.told import Told, together, told_by
from lenssteer.evals.benchmarks.answering import answer_until, in_rounds
from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM
from lenssteer.evals.benchmarks.scoring import (
    Continuation,
    TokenScores,
    by_context,
    context_batches,
    score_continuations,
)
from lenssteer.models import Decoding, LensModel
from lenssteer.models.sizing import fitting, usual_rows
from lenssteer.prompts import Encoded
from lenssteer.steering import Steerer


class ClusterLM(SteeredLM):
    """A `SteeredLM` of which each batch is a task; lm-eval, its data and the tokenizer stay with the driver.

    Batches are those of one process, so that every item has the same score; one receipt is kept of all of a request.

    Args:
        pool: Of the workers.
        model: Unsteered.
        steerer: On during every request; None for the unsteered model.
        **options: Of `SteeredLM`: batch_size, seed, progress.
    """

    def __init__(self, pool: Pool, model: RemoteModel, steerer: Steerer | None = None, **options: Any) -> None:
        super().__init__(model, steerer, **options)
        self.pool = pool
        self.shared = pool.share(steerer)
        self._told: list[Told] = []

    @contextmanager
    def steered(self, kind: str) -> Iterator[None]:
        """Keep one receipt of all tasks of a block."""
        self._told = []
        yield
        if self._told:
            told: Any = together(self._told)
            self.receipts.append((kind, told))

    def scored(self, wanted: Sequence[Continuation]) -> list[TokenScores]:
        """Scores of continuations, a batch of contexts a task."""
        after = by_context(wanted)
        rows = self.batch_size or usual_rows(self.lens)
        places = [[i for context in group for i in after[context]]
                  for group in context_batches(wanted, after, rows, self.max_length)]
        parts = self._run(score_part, [([wanted[i] for i in group], rows) for group in places], "scoring")
        found = {i: one for group, scores in zip(places, parts, strict=True)
                 for i, one in zip(group, scores, strict=True)}
        return [found[i] for i in range(len(wanted))]

    def drawn(self, prompts: Sequence[Encoded], until: Sequence[str], decoding: Decoding,
              rows: Sequence[int]) -> list[list[int]]:
        """Token ids of the answers, a batch a task; the rounds are those of `answer_until`."""
        def draw(waiting: Sequence[int], length: Decoding) -> list[list[int]]:
            chosen = [prompts[i] for i in waiting]
            groups = self.pool.one(self.lens.task(drawing_batches, chosen, self.batch_size, length.max_new_tokens))
            given = [([chosen[i] for i in group], [rows[waiting[i]] for i in group], length) for group in groups]
            parts = self._run(draw_part, given, "answering")
            found = {i: one for group, answers in zip(groups, parts, strict=True)
                     for i, one in zip(group, answers, strict=True)}
            return [found[i] for i in range(len(chosen))]

        return in_rounds(draw, len(prompts), until, decoding, self.tokenizer)

    def _run(self, work: Any, given: Sequence[tuple[Any, ...]], label: str) -> list[Any]:
        tasks = [self.lens.task(work, self.shared, *args) for args in given]
        results = list(in_order(self.pool, tasks, label if self.progress else ""))
        self._told += [told for _, told in results if told is not None]
        return [value for value, _ in results]


def drawing_batches(model: LensModel, encoded: list[Encoded], rows: int | None, new: int) -> list[list[int]]:
    """On a worker: the batches that one process would draw."""
    return [group for group, _ in fitting(model, encoded, lambda group: group, rows=rows, new=new)]


def score_part(model: LensModel, steerer: Steerer | None, wanted: list[Continuation],
               rows: int) -> tuple[list[TokenScores], Told | None]:
    """On a worker: score one batch."""
    return told_by(model, steerer, lambda: score_continuations(model, wanted, rows=rows))


def draw_part(model: LensModel, steerer: Steerer | None, prompts: list[Encoded], rows: list[int],
              decoding: Decoding) -> tuple[list[list[int]], Told | None]:
    """On a worker: draw one batch of answers."""
    return told_by(model, steerer, lambda: answer_until(model, prompts, (), decoding, rows=rows,
                                                        batch_size=len(prompts)))
