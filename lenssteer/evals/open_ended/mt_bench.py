"""MT-Bench: conversations of two turns, each answer graded from 1 to 10 by a language model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from lenssteer.errors import PromptError
from lenssteer.evals.bootstrap import Difference, paired_difference
from lenssteer.evals.conversation import converse
from lenssteer.evals.judges.llm_client import ChatClient
from lenssteer.evals.judges.llm_usage import Usage
from lenssteer.evals.open_ended.grades import Grade, grade_answers, summary
from lenssteer.evals.open_ended.questions import Question
from lenssteer.models import Decoding, LensModel
from lenssteer.prompts import encode
from lenssteer.steering import Receipt, Steerer


@dataclass(frozen=True, eq=False)
class MTBench:
    """Grades of one model, with and without a steerer.

    Args:
        unsteered: One a question and turn.
        steered: The same of the steered model, in the same order; None without a steerer.
        usage: What grading cost.
        model_cost: What answering cost, as `Cost.as_dict`.
        receipt: What the steerer did.
    """

    unsteered: tuple[Grade, ...]
    steered: tuple[Grade, ...] | None
    usage: Usage
    model_cost: dict[str, Any]
    receipt: Receipt | None = None

    @property
    def difference(self) -> Difference | None:
        """Steered - unsteered over questions, by the mean of the turns graded on both sides; None without any."""
        pairs: dict[str, list[tuple[float, float]]] = {}
        for ours, theirs in zip(self.steered or (), self.unsteered):
            if ours.score is not None and theirs.score is not None:
                pairs.setdefault(ours.question, []).append((ours.score, theirs.score))
        if not pairs:
            return None
        return paired_difference([fmean(mine for mine, _ in turns) for turns in pairs.values()],
                                 [fmean(other for _, other in turns) for turns in pairs.values()])

    def as_dict(self, *, answers: bool = False) -> dict[str, Any]:
        """For JSON; the answers only where asked for."""
        arms = {"unsteered": self.unsteered, **({"steered": self.steered} if self.steered is not None else {})}
        items = {arm: [{name: value for name, value in asdict(grade).items() if answers or name != "answer"}
                       for grade in grades] for arm, grades in arms.items()}
        difference = self.difference
        return {"task": "mt_bench", "metric": "grade, 1 to 10",
                "summary": {arm: summary(grades) for arm, grades in arms.items()},
                "difference": asdict(difference) if difference else None, "judge": self.usage.as_dict(),
                "model": self.model_cost, "receipt": self.receipt.as_dict() if self.receipt else None, "items": items}


def mt_bench(model: LensModel, steerer: Steerer | None, questions: Sequence[Question], client: ChatClient,
             decoding: Decoding | None = None, *, system: str | None = None, template: str | None = None,
             batch_size: int | None = None, progress: str = "") -> MTBench:
    """Answer, unsteered and steered, and have every answer graded by itself.

    A steerer stays on for the whole conversation. The grader sees the conversation so far and the reference answer
    where there is one. A question that might not fit the model's context, whatever it answers, is left ungraded.

    Args:
        model: With a template that takes conversations.
        steerer: None grades the unsteered model alone.
        questions: All with the same number of turns.
        client: Of the grading model.
        decoding: How answers are drawn; greedy, 1024 tokens by default.
        system: System prompt of all.
        template: Prompt format.
        batch_size: Most conversations at once; None finds it from the memory that is free.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when the questions differ in their number of turns, or there is none.
        PromptError: when no question fits the context.
        ServerError: when the grading model does not answer; grades so far are kept.
        SteeringError: when the steerer does not fit or fires nowhere.

    Source: Zheng et al. 2023, arXiv:2306.05685, single-answer grading. Departs from it: own wording; greedy for every
    category; a reply with more than one grade, or one outside 1 to 10, is ungraded.
    """
    decoding = decoding or Decoding(1024)
    if steerer is not None:
        steerer.check(model)
    fitting = [i for i, q in enumerate(questions) if _fits(model, q, decoding, system, template)]
    if questions and not fitting:
        raise PromptError(f"no question fits the model's context of {model.card.n_ctx} tokens beside answers of "
                          f"{decoding.max_new_tokens}; lower max_new_tokens.")

    def answered() -> dict[int, list[str]]:
        given = converse(model, [questions[i].turns for i in fitting], decoding, system=system, template=template,
                         batch_size=batch_size, progress=progress)
        return dict(zip(fitting, given, strict=True))

    receipt = steered = None
    with model.metered() as cost:
        plain = answered()
        if steerer is not None:
            with steerer.on(model) as receipt:
                steered = answered()
    too_long = f"may not fit the model's context of {model.card.n_ctx} tokens"
    before = client.usage
    grades = grade_answers(questions, plain, client, too_long)
    steered_grades = None if steered is None else grade_answers(questions, steered, client, too_long)
    return MTBench(grades, steered_grades, client.usage.since(before), cost.as_dict(), receipt)


def _fits(model: LensModel, question: Question, decoding: Decoding, system: str | None, template: str | None) -> bool:
    """Whether the last turn fits, with every answer as long as it may be."""
    messages: list[dict[str, str]] = []
    for text in question.turns:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]
    (encoded,) = encode(model.tokenizer, [tuple(messages[:-1])], system=system, template=template or model.template)
    return len(encoded.ids) + decoding.max_new_tokens * len(question.turns) <= model.card.n_ctx
