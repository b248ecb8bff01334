"""The catalogue of benchmarks: one line each, in the order in which they run."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lenssteer.bench.capture import capture
from lenssteer.bench.decoding import decoding
from lenssteer.bench.engines import engines
from lenssteer.bench.headline import headline, search
from lenssteer.bench.lowrank import lowrank
from lenssteer.bench.memory import memory
from lenssteer.bench.peers import peers
from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.sweep import sweep
from lenssteer.errors import ParameterError
from lenssteer.nearest import unknown


class Benchmark(NamedTuple):
    """A name, what it measures, and the function that yields its figures as they are known."""

    name: str
    about: str
    run: Callable[[Stand], Iterator[Found]]


BENCHMARKS: list[Benchmark] = [
    Benchmark("lowrank", "an edit against the dense d x d form, and against a copy of the activation", lowrank),
    Benchmark("capture", "calibrate against the bare forward pass and run_with_cache", capture),
    Benchmark("engines", "tokens a second of HookedTransformer, Bridge, hf and vLLM, unsteered and steered", engines),
    Benchmark("decoding", "steered against unsteered answers, every method, hf and vLLM", decoding),
    Benchmark("sweep", "36 angles on 8 prompts, one by one against stacked", sweep),
    Benchmark("search", "the full grid of angles against search", search),
    Benchmark("memory", "memory of a calibration against prompts, layers and width", memory),
    Benchmark("headline", "two prompt files to the best angle, the papers' own procedure against ours", headline),
    Benchmark("peers", "what repeng, steering-vectors and nnsight take for the same work; with --with-peers", peers),
]


def chosen(names: list[str], with_peers: bool) -> list[Benchmark]:
    """The benchmarks of these names, all where none is given; peers where they are asked for.

    Raises:
        ParameterError: when there is no such benchmark; the nearest name is suggested.
    """
    known = {one.name: one for one in BENCHMARKS}
    for name in names:
        if name not in known:
            raise ParameterError(unknown("benchmark", name, known))
    wanted = set(names or known) - ({"peers"} if not with_peers and not names else set())
    return [one for one in BENCHMARKS if one.name in wanted or (with_peers and one.name == "peers")]
