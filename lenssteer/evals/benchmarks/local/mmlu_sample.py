"""mmlu_sample: MMLU questions with two answers each, in the layout of CAA's test data."""

from typing import Any

from lenssteer.errors import PromptError
from lenssteer.prompts import read_records

KEYS = ("prompt", "correct", "incorrect")
CONFIG: dict[str, Any] = {
    "task": "mmlu_sample",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}\n\nAnswer:",
    "doc_to_choice": ["(A)", "(B)"],
    "doc_to_target": "answer",
    "fewshot_split": "test",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
"""The question with its choices, "Answer:", and the letter in brackets. Zero-shot unless examples are asked
for, which are then other questions of the same file.

Source: the A/B format of Rimsky et al. 2023, arXiv:2312.06681. Departs from it: no chat template unless one is asked
for, and "Answer:" in place of an answer that begins with "(".
"""


def documents(path: str) -> list[dict[str, Any]]:
    """The questions, with the index of the right letter.

    Raises:
        PromptError: when a record lacks a key, or its letters are not (A) and (B).
    """
    found = []
    for number, record in enumerate(read_records(path), start=1):
        letters = [record.get("correct"), record.get("incorrect")]
        if not isinstance(record.get("prompt"), str) or letters not in (["(A)", "(B)"], ["(B)", "(A)"]):
            raise PromptError(f"{path}: record {number} is not an A/B question; expected {', '.join(KEYS)} with the "
                              f"letters (A) and (B), got {', '.join(map(str, record))}.")
        found.append({"prompt": record["prompt"], "answer": int(record["correct"] == "(B)"),
                      "category": str(record.get("category", ""))})
    return found
