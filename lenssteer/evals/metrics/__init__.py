"""Measures of text and rates over verdicts; plain Python, one file a measure."""

from lenssteer.evals.metrics.compression import compression_ratio, windowed_compression
from lenssteer.evals.metrics.damage import damage
from lenssteer.evals.metrics.endings import empty, ends_sentence, truncated
from lenssteer.evals.metrics.loops import Loop, tail_loop
from lenssteer.evals.metrics.repetition import distinct_ngrams, mostly_repeats, repeated_ngrams
from lenssteer.evals.metrics.scripts import SCRIPTS, contamination, expected_scripts, script, script_shares
from lenssteer.evals.metrics.verdicts import (
    Rate,
    attack_success_rate,
    compliance_rate,
    defence_success_rate,
    refusal_rate,
)
from lenssteer.evals.metrics.violations import THRESHOLDS, Threshold, Violations, count_violations, settings_beyond

__all__ = [
    "SCRIPTS", "THRESHOLDS", "Loop", "Rate", "Threshold", "Violations", "attack_success_rate", "compliance_rate",
    "compression_ratio", "contamination", "count_violations", "damage", "defence_success_rate", "distinct_ngrams",
    "empty", "ends_sentence", "expected_scripts", "mostly_repeats", "refusal_rate", "repeated_ngrams", "script",
    "script_shares", "settings_beyond", "tail_loop", "truncated", "windowed_compression",
]
