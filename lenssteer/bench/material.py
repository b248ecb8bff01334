"""What benchmarks run on, besides a model: prompts of its words."""

import random

from lenssteer.models import LensModel
from lenssteer.prompts import ContrastSet


def random_prompts(model: LensModel, count: int, shortest: int = 24, longest: int = 40, seed: int = 0) -> list[str]:
    """Different prompts of words of the model's vocabulary.

    Args:
        model: Its tokenizer knows the words.
        count: How many.
        shortest, longest: Words of a prompt.
        seed: Of the draw.
    """
    draw = random.Random(seed)
    words = sorted(word.lstrip("Ġ▁") for word in model.tokenizer.get_vocab() if word.lstrip("Ġ▁").isalpha())
    return [" ".join(draw.choices(words, k=draw.randint(shortest, longest))) for _ in range(count)]


def halves(prompts: list[str]) -> ContrastSet:
    """A contrast of arbitrary classes, for work whose result does not matter."""
    middle = len(prompts) // 2
    return ContrastSet(tuple(prompts[:middle]), tuple(prompts[middle:]), "random words")
