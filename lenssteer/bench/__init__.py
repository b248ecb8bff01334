"""Benchmarks: ratios of alternating runs, each against a stated limit."""
