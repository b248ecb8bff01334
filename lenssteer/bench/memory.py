"""(f) Memory that calibrating takes, against prompts, layers and width; every figure from a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lenssteer.bench.stand import Found, Stand
from lenssteer.errors import ModelError

SETTINGS = (
    {"prompts": 200, "layers": 4, "d_model": 256},
    {"prompts": 2000, "layers": 4, "d_model": 256},
    {"prompts": 10000, "layers": 4, "d_model": 256},
    {"prompts": 200, "layers": 8, "d_model": 256},
    {"prompts": 200, "layers": 16, "d_model": 256},
    {"prompts": 200, "layers": 4, "d_model": 512},
    {"prompts": 200, "layers": 4, "d_model": 1024},
)
QUICK = ({"prompts": 4, "layers": 1, "d_model": 64},)
SECONDS = 600


def memory(stand: Stand) -> Iterator[Found]:
    """Peak resident memory before and after a calibration at all norm outputs."""
    for setting in QUICK if stand.quick else SETTINGS:
        yield Found(memory=[measured(**setting)])


def measured(prompts: int, layers: int, d_model: int) -> dict[str, Any]:
    """One line: the setting, MiB with the model loaded, MiB at the peak, and what the calibration added.

    Raises:
        ModelError: when the process fails.
    """
    setting = {"prompts": prompts, "layers": layers, "d_model": d_model}
    with TemporaryDirectory() as folder:
        ran = subprocess.run([sys.executable, "-m", "lenssteer.bench.memory", folder, json.dumps(setting)],
                             capture_output=True, text=True, timeout=SECONDS, check=False)
    if ran.returncode:
        raise ModelError(f"the process that measures {setting} failed: {ran.stderr.strip().splitlines()[-1:]}.")
    return setting | json.loads(ran.stdout.splitlines()[-1])


def _child(folder: str, setting: dict[str, int]) -> dict[str, float]:
    """In a process of its own: calibrate once."""
    from lenssteer.bench.material import halves, random_prompts
    from lenssteer.models import load_model
    from lenssteer.models.untrained import Size, random_model
    from lenssteer.recipe import calibrate

    written = random_model(Path(folder), Size(setting["layers"], setting["d_model"]))
    model = load_model(written, backend="hf")
    contrast = halves(random_prompts(model, setting["prompts"]))
    # A first small one loads what is loaded lazily.
    calibrate(model, halves(random_prompts(model, 8, seed=1)), sites="norm_out", scatter=False, samples=False)
    forget_peak()
    before = peak()
    calibrate(model, contrast, sites="norm_out", scatter=False, samples=False)
    return {"loaded_mib": round(before, 1), "peak_mib": round(peak(), 1), "added_mib": round(peak() - before, 1)}


def forget_peak() -> None:
    """Begin the largest resident memory anew, where the system (Linux) allows it: loading took more than is kept."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float:
    """Largest resident memory of this process, in MiB."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_child(sys.argv[1], json.loads(sys.argv[2]))) + "\n")
