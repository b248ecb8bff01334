"""The refusal metric, as a measure of answers: it lives below, where the refusal direction is chosen by it."""

from lenssteer.recipe.refusal_metric import refusal_log_odds, refusal_score, refusal_tokens

__all__ = ["refusal_log_odds", "refusal_score", "refusal_tokens"]
