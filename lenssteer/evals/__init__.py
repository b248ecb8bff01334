"""Scores of answers."""

from lenssteer.evals.rates import demo_rates, mean_rates

__all__ = ["demo_rates", "mean_rates"]
