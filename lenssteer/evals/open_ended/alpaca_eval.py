"""AlpacaEval: which of two answers a language model prefers, asked in both orders."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from lenssteer.errors import ParameterError
from lenssteer.evals.bootstrap import Difference, paired_difference
from lenssteer.evals.judges.llm_client import ChatClient
from lenssteer.evals.judges.llm_usage import Usage
from lenssteer.evals.judges.phrases import spoken
from lenssteer.evals.open_ended.duels import Duel, duel_answers
from lenssteer.evals.open_ended.questions import Instruction
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.steering import Receipt, Steerer


@dataclass(frozen=True, eq=False)
class AlpacaEval:
    """Duels of a model's answers with others.

    Args:
        duels: One an instruction.
        opponent: "unsteered" or "reference".
        usage: What judging cost.
        model_cost: What answering cost, as `Cost.as_dict`.
        receipt: What the steerer did.
    """

    duels: tuple[Duel, ...]
    opponent: str
    usage: Usage
    model_cost: dict[str, Any]
    receipt: Receipt | None = None

    @property
    def scores(self) -> list[float]:
        """Of the duels that have one; none where all that was asked about is unscored, as the rest are ties."""
        asked = [duel.score for duel in self.duels if duel.reason != "identical"]
        lost = bool(asked) and all(score is None for score in asked)
        return [] if lost else [duel.score for duel in self.duels if duel.score is not None]

    @property
    def win_rate(self) -> float | None:
        """Mean score; a tie is half a win. None without any."""
        return fmean(self.scores) if self.scores else None

    @property
    def difference(self) -> Difference | None:
        """Win rate - .5, with its interval over instructions; None without any."""
        return paired_difference(self.scores, [0.5] * len(self.scores)) if self.scores else None

    @property
    def inconsistent(self) -> int:
        """Scored duels in which the two orders do not agree."""
        return sum(duel.score is not None and duel.orders[0] != duel.orders[1] for duel in self.duels)

    @property
    def first_rate(self) -> float | None:
        """Mean score of whatever stood first in the duels that were asked about; .5 is no position bias."""
        asked = [d.orders for d in self.duels if d.score is not None and d.reason != "identical"]
        first = [score for ours, theirs in asked if ours is not None and theirs is not None
                 for score in (ours, 1 - theirs)]
        return fmean(first) if first else None

    def as_dict(self, *, answers: bool = False) -> dict[str, Any]:
        """For JSON; the answers only where asked for. Lengths are mean characters."""
        reasons = [duel.reason for duel in self.duels if duel.score is None]
        texts = {"ours", "theirs"}
        difference = self.difference
        return {"task": "alpaca_eval", "metric": "win rate", "opponent": self.opponent, "win_rate": self.win_rate,
                "n": len(self.scores), "difference": asdict(difference) if difference else None,
                "ties": self.scores.count(0.5), "inconsistent": self.inconsistent, "first_rate": self.first_rate,
                "identical": sum(duel.reason == "identical" for duel in self.duels),
                "unscored": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
                "length": {"ours": fmean(len(duel.ours) for duel in self.duels),
                           "theirs": fmean(len(duel.theirs) for duel in self.duels)},
                "judge": self.usage.as_dict(), "model": self.model_cost,
                "receipt": self.receipt.as_dict() if self.receipt else None,
                "items": [{name: value for name, value in asdict(duel).items() if answers or name not in texts}
                          for duel in self.duels]}


def alpaca_eval(model: LensModel, steerer: Steerer | None, questions: Sequence[Instruction], client: ChatClient,
                decoding: Decoding | None = None, *, system: str | None = None, template: str | None = None,
                batch_size: int | None = None, progress: str = "") -> AlpacaEval:
    """Answer steered and unsteered, and ask which answer is better, in both orders, so that position cancels.

    Args:
        model: Any.
        steerer: None compares the unsteered answers with the references.
        questions: Instructions.
        client: Of the judging model.
        decoding: How answers are drawn; greedy, 1024 tokens by default.
        system: System prompt of all.
        template: Prompt format.
        batch_size: Most prompts at once; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: without a steerer, when an instruction has no reference.
        PromptError: when there is no instruction, or one does not fit the model's context.
        ServerError: when the judging model does not answer; verdicts so far are kept.
        SteeringError: when the steerer does not fit or fires nowhere.

    Source: Li et al. 2023, AlpacaEval; position bias as in Zheng et al. 2023, arXiv:2306.05685, section 3.4. Departs
    from the former: own wording, both orders of every pair, verdicts instead of token probabilities, and no
    length-controlled win rate, which takes a model of length fitted over many systems: mean lengths stand beside.
    """
    decoding = decoding or Decoding(1024)
    if steerer is None and not all(question.reference for question in questions):
        raise ParameterError("without a steerer the answers are compared with references; give every instruction an "
                             "`output`, or a steerer.")
    if steerer is not None:
        steerer.check(model)

    def answered() -> list[str]:
        return generate(model, [q.prompt for q in questions], decoding, system=system, template=template,
                        batch_size=batch_size, progress=progress)

    before, receipt = client.usage, None
    with model.metered() as cost:
        ours, theirs = answered(), [question.reference for question in questions]
        if steerer is not None:
            theirs = ours
            with steerer.on(model) as receipt:
                ours = answered()
    duels = duel_answers([q.prompt for q in questions], list(map(spoken, ours)), list(map(spoken, theirs)), client)
    return AlpacaEval(duels, "reference" if steerer is None else "unsteered", client.usage.since(before),
                      cost.as_dict(), receipt)
