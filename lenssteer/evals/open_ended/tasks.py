"""Open-ended tasks by name, as a command runs them."""

from pathlib import Path
from typing import Any

from lenssteer.errors import ParameterError
from lenssteer.evals.judges.llm import refuse_unknown
from lenssteer.evals.judges.llm_client import ChatClient
from lenssteer.evals.open_ended.alpaca_eval import alpaca_eval
from lenssteer.evals.open_ended.mt_bench import mt_bench
from lenssteer.evals.open_ended.questions import read_instructions, read_questions
from lenssteer.models import Decoding, LensModel
from lenssteer.nearest import unknown
from lenssteer.prompts import Prompt, refuse_seen
from lenssteer.steering import Steerer

TASKS = {"mt_bench": "two-turn questions, graded 1 to 10", "alpaca_eval": "steered against unsteered answers, in pairs"}


def run_open_ended(task_name: str, model: LensModel, steerer: Steerer | None, data: Path | str, judge_spec: str,
                   limit: int | None = None, *, decoding: Decoding | None = None, system: str | None = None,
                   template: str | None = None, batch_size: int | None = None, answers: bool = False,
                   progress: str = "") -> dict[str, Any]:
    """Run one task, unsteered and steered.

    Args:
        task_name: One of `TASKS`.
        model: The model.
        steerer: None for the unsteered model alone; alpaca_eval then compares with the file's `output`.
        data: MT-Bench's question.jsonl, or a file of instructions.
        judge_spec: `MODEL@URL?option=value&...`, with or without `llm:` before it; see `Endpoint`.
        limit: Only so many questions: of MT-Bench evenly over the file, of instructions the first.
        decoding: How answers are drawn; greedy, 1024 tokens by default.
        system: System prompt of all.
        template: Prompt format.
        batch_size: Most prompts at once; None finds it from the memory that is free.
        answers: Whether the answers are in the result.
        progress: Label of a progress bar; "" for none.

    Returns:
        What `MTBench.as_dict` or `AlpacaEval.as_dict` gives, and the judge's `judged_by`.

    Raises:
        ParameterError: when the task, the limit or the judge cannot be read.
        PromptError: when the data cannot be read, or holds a prompt the steerer was calibrated on.
        ServerError: when the judging model does not answer; what it judged is kept.
    """
    if task_name not in TASKS:
        raise ParameterError(unknown("open-ended task", task_name, TASKS))
    if limit is not None and limit < 1:
        raise ParameterError(f"limit is {limit}; expected at least 1.")
    client, rest = ChatClient.from_spec(judge_spec.removeprefix("llm:"))
    refuse_unknown(rest, [])
    settings: dict[str, Any] = {"system": system, "template": template, "batch_size": batch_size, "progress": progress}
    try:
        if task_name == "mt_bench":
            questions = read_questions(data, limit)
            _refuse_seen(steerer, [turn for question in questions for turn in question.turns])
            found = mt_bench(model, steerer, questions, client, decoding, **settings).as_dict(answers=answers)
        else:
            instructions = read_instructions(data, limit)
            _refuse_seen(steerer, [instruction.prompt for instruction in instructions])
            found = alpaca_eval(model, steerer, instructions, client, decoding, **settings).as_dict(answers=answers)
    finally:
        client.release()
    return {**found, "judged_by": f"{client.endpoint.model}@{client.endpoint.url}"}


def _refuse_seen(steerer: Steerer | None, prompts: list[Prompt]) -> None:
    if steerer is not None:
        refuse_seen(steerer.provenance.get("calibration", {}).get("seen", ()), prompts)
