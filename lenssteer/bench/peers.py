"""Other libraries on the same model, prompts and work, in an environment of their own."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lenssteer.bench.stand import Found, Stand
from lenssteer.bench.timing import Ratio, interval
from lenssteer.errors import ModelError

PINS = ("transformers>=4.57,<5", "repeng==0.4.0", "steering-vectors==0.12.2", "nnsight==0.8.1")
"""steering-vectors takes no transformers 5."""
SCRIPT = Path(__file__).with_name("peers_script.py")
NAMES = {"capture": "capture_over_forward", "decode": "steered_over_unsteered"}
SECONDS = 3600


def peers_folder() -> Path:
    """Where their environment is made unless the user says otherwise: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "lenssteer" / "peers"


def peers(stand: Stand) -> Iterator[Found]:
    """Each library's capture over its bare forward pass, and its steered over unsteered answers."""
    python = made(stand.peers or peers_folder())
    for name, found in measured(python, stand).items():
        ratios = {f"{NAMES[kind]}/{name}": _ratio(found[kind], kind, name, found["version"])
                  for kind in NAMES if kind in found}
        failed = [f"{name} {found['version']} failed: {found['error']}"] if "error" in found else []
        yield Found(ratios, notes=failed)


def _ratio(pairs: list[list[float]], kind: str, name: str, library: str) -> Ratio:
    what = {"capture": "activations of all layers over the bare forward pass", "decode": "steered over unsteered"}[kind]
    found = [theirs / plain for theirs, plain in pairs]
    return Ratio(median(found), *interval(found), len(pairs), None, median(theirs for theirs, _ in pairs),
                 median(plain for _, plain in pairs), f"{name} {library}: {what}, in its own environment")


def made(folder: Path) -> Path:
    """The Python of the environment, which is made, with pinned packages, where it is absent.

    Raises:
        ModelError: when it cannot be made, such as without a network.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "made.json").is_file() and python.is_file():
        return python
    # The same torch, without the CUDA builds that an open bound would take on a machine without a GPU.
    wanted = [f"torch=={version('torch').partition('+')[0]}", *PINS]
    try:
        venv.EnvBuilder(with_pip=True, clear=folder.exists() and not any(folder.iterdir())).create(folder)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True, capture_output=True,
                       text=True, timeout=SECONDS)
    except subprocess.CalledProcessError as error:
        raise ModelError(f"cannot install {' '.join(wanted)} into {folder}: {_last(error.stderr)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"cannot make an environment in {folder}: {error}; name another with --peers-env.") from error
    (folder / "made.json").write_text(json.dumps(wanted), encoding="utf-8")
    return python


def measured(python: Path, stand: Stand) -> Mapping[str, Any]:
    """What the script says of every library.

    Raises:
        ModelError: when it fails.
    """
    asked = {"prompts": stand.prompts, "asked": stand.asked, "new_tokens": stand.decoding.max_new_tokens,
             "repeats": max(stand.repeats // 2, 1), "threads": torch.get_num_threads()}
    with TemporaryDirectory() as place:
        path = Path(place) / "asked.json"
        path.write_text(json.dumps(asked), encoding="utf-8")
        try:
            ran = subprocess.run([str(python), str(SCRIPT), str(stand.folder), str(path)], capture_output=True,
                                 text=True, timeout=SECONDS, check=False, env=_environment())
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelError(f"cannot run {python}: {error}; remove its folder, and it is made anew.") from error
    if ran.returncode:
        raise ModelError(f"the other libraries' script failed in {python}: {_last(ran.stderr)}")
    return json.loads(ran.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    """Nothing of this environment's own, and nothing from a network."""
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return kept | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _last(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1] if lines else f"no message; try it by hand with {sys.executable} -m venv"
