"""Contrast sets: the positive and negative prompts a direction is computed from."""

import hashlib
import json
import random
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

from lenssteer.errors import ParameterError, PromptError
from lenssteer.prompts.files import read_prompts
from lenssteer.prompts.seen import prompt_hash

WRAPPER_WORDS = 3


class PromptWarning(UserWarning):
    """Prompts that work, but may not measure what was meant."""


@dataclass(frozen=True)
class ContrastSet:
    """Prompts with (positive) and without (negative) the property a direction should carry.

    The positive class projects higher on every direction computed from the set: for refusal, give the prompts that
    are refused as positive.

    Raises:
        PromptError: when a class is empty, holds blank prompts, or shares a prompt with the other.

    Warns:
        PromptWarning: when a prompt stands twice in its class, or all prompts of one class share a wrapper that the
        other class lacks; a direction then carries the wrapper.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    name: str = "contrast"

    def __post_init__(self) -> None:
        for label, prompts in (("positive", self.positive), ("negative", self.negative)):
            if not prompts:
                raise PromptError(f"the {label} class is empty; a contrast needs prompts of both classes.")
            blank = [i for i, prompt in enumerate(prompts) if not prompt.strip()]
            if blank:
                raise PromptError(f"{label} prompt {blank[0]} is blank ({len(blank)} in all); remove it.")
            if len(set(prompts)) < len(prompts):
                again = len(prompts) - len(set(prompts))
                warnings.warn(f"{again} {label} prompts are repeated; they count twice.", PromptWarning, stacklevel=3)
        both = set(self.positive) & set(self.negative)
        if both:
            raise PromptError(f"{len(both)} prompts stand in both classes; their difference is nothing. "
                              "Remove them from one.")
        _warn_of_wrapper(self.positive, self.negative)

    @property
    def sha256(self) -> str:
        """Identifies the set by its prompts; the name does not count."""
        text = json.dumps([self.positive, self.negative], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_files(cls, positive: Path | str, negative: Path | str, *, column: str | None = None) -> "ContrastSet":
        """Read both classes from CSV, JSONL, JSON, Parquet or text files.

        Raises:
            PromptError: when a file or column cannot be read.
        """
        name = f"{Path(positive).stem} / {Path(negative).stem}"
        return cls(tuple(read_prompts(positive, column=column)), tuple(read_prompts(negative, column=column)), name)

    def without(self, seen: Collection[str]) -> "ContrastSet":
        """The prompts whose hash is not among `seen`.

        Raises:
            PromptError: when a class has no other prompts.
        """
        known = set(seen)
        kept = [tuple(p for p in prompts if prompt_hash(p) not in known) for prompts in (self.positive, self.negative)]
        if not all(kept):
            raise PromptError("every prompt of a class was used before; give prompts that were not calibrated on.")
        return ContrastSet(kept[0], kept[1], self.name)

    def split(self, sizes: Mapping[str, int], *, seed: int = 0) -> dict[str, "ContrastSet"]:
        """Disjoint parts with so many prompts of each class, drawn by seed.

        >>> parts = ContrastSet(("a", "b", "c"), ("x", "y", "z")).split({"calibration": 2, "test": 1})
        >>> len(parts["calibration"].positive), len(parts["test"].negative)
        (2, 1)

        Raises:
            ParameterError: when a class has fewer distinct prompts than the sizes ask for.
        """
        drawn = [_shuffled(self.positive, seed), _shuffled(self.negative, seed + 1)]
        need, have = sum(sizes.values()), min(len(prompts) for prompts in drawn)
        if need > have:
            raise ParameterError(f"the split asks for {need} prompts a class, the smaller class has {have}.")
        parts: dict[str, ContrastSet] = {}
        start = 0
        for part, size in sizes.items():
            plus, minus = (tuple(prompts[start : start + size]) for prompts in drawn)
            parts[part] = ContrastSet(plus, minus, f"{self.name} [{part}]")
            start += size
        return parts


def _shuffled(prompts: Sequence[str], seed: int) -> list[str]:
    unique = list(dict.fromkeys(prompts))
    random.Random(seed).shuffle(unique)
    return unique


def _wrapper(prompts: Sequence[str]) -> tuple[str, str]:
    words = [prompt.split() for prompt in prompts]
    ends = [list(reversed(line)) for line in words]
    return " ".join(commonprefix(words)), " ".join(reversed(commonprefix(ends)))


def _warn_of_wrapper(positive: Sequence[str], negative: Sequence[str]) -> None:
    if min(len(positive), len(negative)) < 3:
        return
    for mine, other in zip(_wrapper(positive), _wrapper(negative), strict=True):
        if mine != other and max(len(mine.split()), len(other.split())) >= WRAPPER_WORDS:
            warnings.warn("all prompts of one class share words that the other class lacks "
                          f"({mine or other!r}); the direction will carry that wrapper.", PromptWarning, stacklevel=4)
