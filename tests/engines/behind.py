"""A LensModel behind the Engine protocol: what it offers and no more."""

from contextlib import nullcontext

from lenssteer.engines.engine import AnswerScores
from lenssteer.evals.benchmarks.scoring import Continuation, score_continuations
from lenssteer.models import Decoding, decode, generate
from lenssteer.prompts import Encoded, pad
from lenssteer.steering import Rowwise


class Behind:
    """Answers of a LensModel, asked for as an engine is.

    Args:
        lens: Whose answers.
    """

    def __init__(self, lens):
        self.card = lens.card
        self.dtype = "float32"
        self.tokenizer = lens.tokenizer
        self.stop_ids = lens.stop_ids
        self.template = lens.template
        self.check_site = lens.check_site
        self.encode = lens.encode
        self.metered = lens.metered
        self.receipts = ()
        self.calls = []
        self._lens = lens

    def answers(self, parts, prompts, decoding=None, *, template=None, system=None, progress=""):
        self.calls.append("answers")
        answers, receipts = [], []
        for steerer, settings in parts:
            rows = [*prompts] * settings
            with Rowwise(((steerer, len(rows)),)).on(self._lens) as told:
                answers += generate(self._lens, rows, decoding, template=template, system=system)
            receipts += told
        self.receipts = tuple(receipts)
        return [answers[i : i + len(prompts)] for i in range(0, len(answers), len(prompts))]

    def drawn(self, steerer, prompts, decoding, *, rows=None, progress=""):
        self.calls.append("drawn")
        tokens = pad(prompts, rows=rows)
        return self._under(steerer, lambda: decode(self._lens, tokens, decoding or Decoding()))

    def log_likelihoods(self, steerer, wanted, *, top=0, progress=""):
        self.calls.append("log_likelihoods")
        assert all(one.prompt_end < len(one.ids) <= self.card.n_ctx + 1 for one in wanted)
        asked = [Continuation(Encoded(one.ids[: one.prompt_end], one.instruction, one.prompt_end),
                              one.ids[one.prompt_end :]) for one in wanted]
        found = self._under(steerer, lambda: score_continuations(self._lens, asked, top=top))
        return [AnswerScores(one.log_probs, one.greedy, one.top) for one in found]

    def _under(self, steerer, run):
        with nullcontext() if steerer is None else steerer.on(self._lens) as receipt:
            found = run()
        self.receipts = (receipt,)
        return found
