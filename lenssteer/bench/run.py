"""Run benchmarks one after another; what one found stays when the next fails or somebody stops it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lenssteer.bench.catalogue import Benchmark
from lenssteer.bench.machine import machine
from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import INTERVAL
from lenssteer.errors import LenssteerError
from lenssteer.models.untrained import Size, random_model


@dataclass
class Report:
    """Everything that was found.

    Args:
        stand: What it was measured on.
        found: Pieces, merged by name.
        failed: Why a benchmark ended early, by name.
        interrupted: Whether somebody stopped the run.
    """

    stand: Stand
    found: Found = field(default_factory=Found)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def add(self, piece: Found) -> None:
        """Merge a piece."""
        self.found.ratios.update(piece.ratios)
        self.found.memory.extend(piece.memory)
        self.found.tokens_per_second.update(piece.tokens_per_second)
        self.found.notes.extend(piece.notes)

    @property
    def missed(self) -> list[str]:
        """Ratios that do not reach their target."""
        return [name for name, ratio in self.found.ratios.items() if ratio.met is False]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        stand, found = self.stand, self.found
        return {"machine": machine(stand.device, stand.dtype),
                "model": {"measured": stand.about, "organism": stand.organism, "quick": stand.quick,
                          "repeats": stand.repeats},
                "interval": INTERVAL,
                "ratios": {name: ratio.as_dict() for name, ratio in found.ratios.items()},
                "memory": found.memory,
                "tokens_per_second": {name: round(value, 1) for name, value in found.tokens_per_second.items()},
                "missed": self.missed, "failed": self.failed, "notes": found.notes, "interrupted": self.interrupted}


def run_benchmarks(stand: Stand, benchmarks: Sequence[Benchmark],
                   tell: Callable[[str], object] = lambda stage: None) -> Report:
    """Run them in order.

    A benchmark that raises is reported with its error, and the others go on; ctrl-C ends the run with what is known.

    Args:
        stand: Models and prompts.
        benchmarks: Of the catalogue.
        tell: Called with what comes next.
    """
    report = Report(stand)
    for i, benchmark in enumerate(benchmarks, 1):
        tell(f"{benchmark.name}, {i} of {len(benchmarks)}: {benchmark.about}")
        try:
            for piece in benchmark.run(stand):
                report.add(piece)
                tell(f"{benchmark.name}, {i} of {len(benchmarks)}: {', '.join(piece.ratios) or benchmark.about}")
        except KeyboardInterrupt:
            report.interrupted = True
            return report
        except (LenssteerError, RuntimeError, OSError, ValueError, ImportError) as error:
            report.failed[benchmark.name] = f"{type(error).__name__}: {error}"
    return report


@contextmanager
def stand_of(model: str | None, *, size: Size | None = None, files: tuple[Path, Path] | None = None,
             **options: Any) -> Iterator[Stand]:
    """A stand on a model folder, or on a random model in a folder that is gone afterwards.

    Args:
        model: Folder; None for a random model. With `files` it is the organism too.
        size: Of the random model.
        files: Positive and negative prompts of the organism.
        **options: Of `Stand`.
    """
    size = size or Size()
    organism = model if model is not None and files is not None else "demo"
    with TemporaryDirectory() as folder:
        place = Path(model) if model is not None else random_model(Path(folder), size, options.get("dtype", "float32"))
        yield Stand(place, str(model or size), organism=organism, files=files, **options)
