"""Damage: every measure of one answer's text that steering can spoil."""

from lenssteer.errors import ParameterError
from lenssteer.evals.metrics.compression import windowed_compression
from lenssteer.evals.metrics.endings import empty, truncated
from lenssteer.evals.metrics.loops import tail_loop
from lenssteer.evals.metrics.repetition import repeated_ngrams
from lenssteer.evals.metrics.scripts import contamination, expected_scripts


def damage(answer: str, *, prompt: str | None = None, tokens: int | None = None, limit: int | None = None,
           perplexity: float | None = None) -> dict[str, float | None]:
    """Measures of an answer by name, as `count_violations` takes them; 0 and 1 for those that are yes or no.

    Args:
        answer: As generated.
        prompt: Its scripts are expected in the answer; latin where none is given.
        tokens: Tokens of the answer; with `limit`, "truncated" is measured too.
        limit: Most tokens it could have had.
        perplexity: Under the unsteered model, to be listed with the rest.

    Returns:
        contamination, repeated_ngrams (4-grams), windowed_compression (None for a short text), loop, empty; truncated
        and perplexity where their arguments are given. The first three are None for an empty answer, whose text has
        no quality to average in.

    Raises:
        ParameterError: when only one of `tokens` and `limit` is given, or they disagree.
    """
    if (tokens is None) != (limit is None):
        raise ParameterError(f"tokens and limit come together; got {tokens} and {limit}.")
    nothing = empty(answer)
    found: dict[str, float | None] = {
        "contamination": None if nothing else contamination(answer, expected_scripts(prompt or "")),
        "repeated_ngrams": None if nothing else repeated_ngrams(answer),
        "windowed_compression": None if nothing else windowed_compression(answer),
        "loop": float(tail_loop(answer) is not None),
        "empty": float(nothing),
    }
    if tokens is not None and limit is not None:
        found["truncated"] = float(truncated(answer, tokens=tokens, limit=limit))
    return found if perplexity is None else found | {"perplexity": perplexity}
