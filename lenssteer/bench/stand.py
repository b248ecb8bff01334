"""The stand that benchmarks share: models, prompts, how often and how long."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lenssteer.bench.material import halves, random_prompts
from lenssteer.bench.timing import Clock, Ratio
from lenssteer.models import Decoding, LensModel, load_model
from lenssteer.models.loading import DTYPES
from lenssteer.prompts import ContrastSet, read_prompts
from lenssteer.recipe import Calibration, calibrate
from lenssteer.site import Site


@dataclass(eq=False)
class Stand:
    """What every benchmark is given.

    Args:
        folder: The model whose speed is measured.
        about: It, in words.
        repeats: Pairs of a ratio.
        quick: Whether work is cut down, to see that it runs; figures of a quick run are noise.
        device: Of models; Ignored by engines that choose themselves.
        dtype: Of models.
        organism: The model where angles mean something: "demo", or the user's.
        files: Positive and negative prompts for the organism; None for the demo's.
        peers: Environment of the other libraries; None where they are left out.
        clock: Of this process.
    """

    folder: Path
    about: str
    repeats: int = 7
    quick: bool = False
    device: str = "cpu"
    dtype: str = "float32"
    organism: str = "demo"
    files: tuple[Path, Path] | None = None
    peers: Path | None = None
    clock: Clock = field(default_factory=Clock)
    _loaded: dict[tuple[str, str], LensModel] = field(default_factory=dict)

    def model(self, backend: str = "hf", name: str | None = None) -> LensModel:
        """A model on a backend, loaded once and never stopping by itself where it is the one that is measured."""
        wanted = str(name or self.folder)
        if (wanted, backend) not in self._loaded:
            found = load_model(wanted, backend=backend, device=self.device, dtype=self.dtype, check=not self.quick)
            found.stop_ids = found.stop_ids if name else frozenset()
            self._loaded[wanted, backend] = found
        return self._loaded[wanted, backend]

    @cached_property
    def prompts(self) -> list[str]:
        """Of 24 to 40 random words; capture reads all of them."""
        return random_prompts(self.model(), 16 if self.quick else 64)

    @cached_property
    def contrast(self) -> ContrastSet:
        """Two arbitrary classes of them."""
        return halves(self.prompts)

    @property
    def asked(self) -> list[str]:
        """Prompts that are answered."""
        return self.prompts[: 4 if self.quick else 32]

    @property
    def decoding(self) -> Decoding:
        """How they are answered."""
        return Decoding(4 if self.quick else 24)

    @cached_property
    def calibration(self) -> Calibration:
        """With all that any method of the catalogue needs."""
        return calibrate(self.model(), self.contrast, sites="norm_out", scatter=True, samples=True)

    @cached_property
    def sites(self) -> list[Site]:
        """Every norm output whose classes differ: more than any discriminative choice of a real model."""
        return [site for site in self.calibration.sites if site not in self.calibration.candidates.degenerate]

    @cached_property
    def organism_prompts(self) -> ContrastSet:
        """Prompts the organism refuses, and prompts it answers."""
        if self.files is not None:
            positive, negative = (tuple(read_prompts(path)) for path in self.files)
            return ContrastSet(positive, negative, self.files[0].stem)
        from lenssteer.models.demo.world import requests

        drawn = {kind: [one.text for split in ("calibration", "selection") for one in requests(split, kind)]
                 for kind in ("harmful", "harmless")}
        last = slice(-24 if self.quick else None, None)
        return ContrastSet(tuple(drawn["harmful"])[last], tuple(drawn["harmless"])[last], "demo")

    @property
    def torch_dtype(self) -> Any:
        """The dtype of models."""
        return DTYPES[self.dtype]


@dataclass(frozen=True)
class Found:
    """One piece of what a benchmark found; pieces are merged as they come.

    Args:
        ratios: By name.
        memory: One line a process that was measured.
        tokens_per_second: By engine and steering.
        notes: What a reader has to know.
    """

    ratios: dict[str, Ratio] = field(default_factory=dict)
    memory: list[dict[str, Any]] = field(default_factory=list)
    tokens_per_second: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
