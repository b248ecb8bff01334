"""On-policy contrasts: what the model itself answers under two system prompts."""

from collections.abc import Sequence

from lenssteer.errors import ParameterError
from lenssteer.models import Decoding, LensModel, generate
from lenssteer.prompts import AnswerContrast, Exchange, with_system


def on_policy_contrast(
    model: LensModel,
    prompts: Sequence[str],
    *,
    positive_system: str | Sequence[str],
    negative_system: str | Sequence[str],
    decoding: Decoding | None = None,
    template: str | None = None,
    name: str = "on-policy answers",
    progress: str = "",
) -> AnswerContrast:
    """Answer every prompt under an aligned and under a malicious system prompt.

    Activations are to be read over the answers (`calibrate(model, contrast, at="mean(answer)")`), in the
    conversation they were given in: one vector a response.

    Args:
        model: Unsteered.
        prompts: Scenarios.
        positive_system: The aligned system prompt, or one a scenario.
        negative_system: The malicious one, or one a scenario.
        decoding: How answers are drawn; greedy, 64 tokens by default.
        template: Prompt format.
        name: Of the contrast.
        progress: Label of a progress bar; "" for none.

    Raises:
        ParameterError: when there is not one system prompt a scenario.
        PromptError: when the template takes no system prompt, or the model gave an empty answer.

    Source: arXiv:2604.08169, Eq. 1 and Algorithm A.1.
    """
    both = [[system] * len(prompts) if isinstance(system, str) else list(system)
            for system in (positive_system, negative_system)]
    for systems in both:
        if len(systems) != len(prompts):
            raise ParameterError(f"{len(prompts)} scenarios need as many system prompts, or one; got {len(systems)}.")
    sides: list[tuple[Exchange, ...]] = []
    for systems in both:
        asked = [with_system(prompt, text) for prompt, text in zip(prompts, systems, strict=True)]
        answers = generate(model, asked, decoding, template=template, progress=progress)
        sides.append(tuple(Exchange(prompt, answer) for prompt, answer in zip(asked, answers, strict=True)))
    same = sum(plus.answer == minus.answer for plus, minus in zip(sides[0], sides[1], strict=True))
    if same == len(prompts):
        raise ParameterError("every answer is the same under both system prompts; they do not tell the classes apart.")
    return AnswerContrast(sides[0], sides[1], name)
