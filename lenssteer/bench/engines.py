"""(e) Tokens a second of every engine, unsteered and steered."""

from collections.abc import Iterator
from dataclasses import replace

from lenssteer.bench.decoding import answering, compared, steerer_of
from lenssteer.bench.stand import Found, Stand
from lenssteer.errors import LenssteerError
from lenssteer.methods import find_method

ENGINES = ("hooked", "bridge", "hf", "vllm")
METHOD = "selective"


def engines(stand: Stand) -> Iterator[Found]:
    """HookedTransformer, Bridge, hf and vLLM side by side: the same prompts and number of new tokens."""
    steerer = steerer_of(stand, find_method(METHOD))
    tokens = len(stand.asked) * stand.decoding.max_new_tokens
    for engine in ENGINES:
        try:
            answer = answering(stand, engine)
            found = compared(stand, engine, answer, replace(steerer, card=None), METHOD)
        except LenssteerError as error:
            yield Found(notes=[f"tokens a second of {engine} were left out: {error}"])
            continue
        yield Found({f"steered_over_unsteered/{engine}/{METHOD}": found},
                    tokens_per_second={engine: tokens / found.under, f"{engine}/{METHOD}": tokens / found.over})
