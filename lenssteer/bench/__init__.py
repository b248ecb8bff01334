"""Benchmarks: ratios of alternating runs, each against a stated limit."""

from lenssteer.bench.catalogue import BENCHMARKS, Benchmark, chosen
from lenssteer.bench.peers import peers_folder
from lenssteer.bench.run import Report, run_benchmarks, stand_of
from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import Clock, Ratio, ratio
from lenssteer.models.untrained import Size

__all__ = ["BENCHMARKS", "Benchmark", "Clock", "Found", "Ratio", "Report", "Size", "Stand", "chosen", "peers_folder",
           "ratio", "run_benchmarks", "stand_of"]
