"""An engine, steered or not, as a model of lm-eval."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lenssteer.engines.engine import Engine
from lenssteer.evals.benchmarks.answering import in_rounds
from lenssteer.evals.benchmarks.lm_eval_model import SteeredLM
from lenssteer.evals.benchmarks.scoring import Continuation, TokenScores
from lenssteer.models import Decoding
from lenssteer.prompts import Encoded


class EngineLM(SteeredLM):
    """What lm-eval asks, answered outside this process; see `SteeredLM`.

    The engine is given all requests at once and batches them itself.
    """

    lens: Engine

    def drawn(self, prompts: Sequence[Encoded], until: Sequence[str], decoding: Decoding,
              rows: Sequence[int]) -> list[list[int]]:
        """Token ids of the answers; see `in_rounds`."""
        def draw(waiting: Sequence[int], decoding: Decoding) -> list[list[int]]:
            found = self.lens.drawn(self.steerer, [prompts[i] for i in waiting], decoding,
                                    rows=[rows[i] for i in waiting], progress="answering" if self.progress else "")
            self._keep("generate_until")
            return found

        return in_rounds(draw, len(prompts), until, decoding, self.tokenizer)

    def scored(self, wanted: Sequence[Continuation]) -> list[TokenScores]:
        """Scores of continuations; see `Engine.log_likelihoods`."""
        found = self.lens.log_likelihoods(self.steerer, [one.encoded for one in wanted],
                                          progress="scoring" if self.progress else "")
        self._keep("loglikelihood")
        return [TokenScores(one.log_probs, one.greedy, one.top) for one in found]

    @contextmanager
    def steered(self, kind: str) -> Iterator[None]:
        """Every request names its steerer, so there is nothing to switch on."""
        yield

    def _keep(self, kind: str) -> None:
        self.receipts += [(kind, receipt) for receipt in self.lens.receipts if receipt is not None]
