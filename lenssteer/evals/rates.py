"""From graded answers to rates."""

from collections.abc import Sequence

from lenssteer.errors import ParameterError
from lenssteer.models.demo.grade import Grade, grade
from lenssteer.models.demo.prompt import Prompt
from lenssteer.rows import Rates


def demo_rates(prompts: Sequence[Prompt], answers: Sequence[str]) -> Rates:
    """Grade answers of the demo world and average.

    Raises:
        ParameterError: when there is not one answer a prompt, or nothing to grade.
    """
    if not prompts or len(prompts) != len(answers):
        raise ParameterError(f"expected one answer for each of {len(prompts)} prompts, got {len(answers)}.")
    return mean_rates([grade(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)])


def mean_rates(grades: Sequence[Grade]) -> Rates:
    """Shares over grades."""
    n = len(grades)
    return Rates(refusal=sum(g.refusal for g in grades) / n, on_form=sum(g.on_form for g in grades) / n,
                 exact=sum(g.exact for g in grades) / n, n=n)
