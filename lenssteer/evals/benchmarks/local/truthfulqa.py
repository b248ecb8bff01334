"""truthfulqa_mc1 and truthfulqa_mc2 on the published CSV; the prompt and the scores are lm-eval's own."""

from typing import Any

from lenssteer.errors import PromptError
from lenssteer.prompts import read_records

KEYS = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")


def documents(path: str) -> list[dict[str, Any]]:
    """The questions in the layout of the hub's `multiple_choice` set.

    MC1 has the best answer and then the incorrect ones; MC2 the correct ones, the best first, and then the incorrect.

    Raises:
        PromptError: when a record lacks a column, or has no answer on one side.

    Source: Lin et al. 2021, arXiv:2109.07958.
    """
    found = []
    for number, record in enumerate(read_records(path), start=1):
        missing = [key for key in KEYS if not isinstance(record.get(key), str) or not record[key].strip()]
        if missing:
            raise PromptError(f"{path}: record {number} has nothing in {missing[0]!r}; expected {', '.join(KEYS)}.")
        best = record["Best Answer"].strip()
        right, wrong = (_answers(record[key]) for key in KEYS[2:])
        right = list(dict.fromkeys([best, *right]))
        found.append({"question": record["Question"].strip(), "mc1_targets": _choices([best], wrong),
                      "mc2_targets": _choices(right, wrong)})
    return found


def _answers(text: str) -> list[str]:
    return list(dict.fromkeys(answer.strip() for answer in text.split(";") if answer.strip()))


def _choices(right: list[str], wrong: list[str]) -> dict[str, list[Any]]:
    return {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)}
