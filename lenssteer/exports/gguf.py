"""GGUF control vectors of llama.cpp: `llama-cli -m model.gguf --control-vector vector.gguf`.

llama.cpp adds `direction.N` to the output of its block N, counted from 0, at every token; block 0 takes none.
"""

import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from lenssteer.artefacts.lines import apart
from lenssteer.artefacts.writing import settle
from lenssteer.errors import FileError, SteeringError
from lenssteer.exports.carrying import plain_edits
from lenssteer.models.affine import Affine
from lenssteer.site import Site
from lenssteer.steering import Steerer

TARGET = "a GGUF control vector"
ARCHITECTURE = "controlvector"


def export_gguf(steerer: Steerer, path: Path | str) -> Path:
    """Write an additive steerer as a GGUF control vector.

        direction.N = what the steerer adds at resid_post.N, which is resid_pre.N+1, as float32

    llama.cpp scales it by 1 unless it is told otherwise.

    Args:
        steerer: Adds constants at resid_post or resid_pre of any block but the first, where="all".
        path: File to write.

    Raises:
        SteeringError: when the steerer does anything else.
        FileError: when the file cannot be written, or the gguf package is not installed.
    """
    vectors = control_vectors(steerer)
    gguf, path = package(), Path(path)
    hint = re.sub("(ForCausalLM|LMHeadModel)$", "", steerer.card.architecture).lower() if steerer.card else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with apart(path.resolve()) as place:
            _write(gguf.GGUFWriter(place / path.name, ARCHITECTURE), hint, vectors)
            settle(place / path.name, path.resolve())
    except OSError as error:
        raise FileError(f"cannot write {path}: {error}") from error
    return path


def _write(writer: Any, hint: str, vectors: dict[int, Float64[Tensor, " d_model"]]) -> None:
    try:
        writer.add_string(f"{ARCHITECTURE}.model_hint", hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
        for layer, vector in sorted(vectors.items()):
            writer.add_tensor(f"direction.{layer}", vector.float().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def control_vectors(steerer: Steerer) -> dict[int, Float64[Tensor, " d_model"]]:
    """What is added to the output of each block.

    Raises:
        SteeringError: when the steerer does anything but that.
    """
    found: dict[int, Tensor] = {}
    for site, edit in plain_edits(steerer, TARGET).items():
        affine = _constant(site, edit)
        layer = _layer(site)
        found[layer] = found[layer] + affine.constant if layer in found else affine.constant
    if any(not torch.isfinite(vector.float()).all() for vector in found.values()):
        raise SteeringError(f"{TARGET} is stored as float32, where this steerer's vectors are not finite.")
    return found


def _constant(site: Site, edit: Any) -> Affine:
    try:
        found = Affine.of(edit)
    except SteeringError as error:
        raise SteeringError(f"{TARGET} cannot carry the edit at {site}: {error}") from error
    if not found.is_constant:
        raise SteeringError(f"{TARGET} adds the same vector to every token, and the edit at {site} depends on the "
                            "activation. Export it with --to torch, or, where weights can take it, --to checkpoint.")
    return found


def _layer(site: Site) -> int:
    """The block whose output it edits.

    Raises:
        SteeringError: when that is none llama.cpp adds to.
    """
    layer = site.layer - (site.stream == "resid_pre")
    if site.stream not in ("resid_pre", "resid_post"):
        raise SteeringError(f"llama.cpp adds control vectors to the outputs of blocks (resid_post), not at {site}.")
    if layer < 1:
        raise SteeringError(f"llama.cpp adds no control vector to the output of the first block or before it, so it "
                            f"cannot steer at {site}; use resid_post.1 or later.")
    return layer


def package() -> Any:
    """The gguf package.

    Raises:
        FileError: when it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise FileError("GGUF files need the gguf package: pip install 'lenssteer[gguf]'.") from error
    return gguf
