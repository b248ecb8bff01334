"""A checkpoint with steering written into its weights, shard by shard, proved before it gets its name."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lenssteer.artefacts.lines import apart
from lenssteer.artefacts.writing import flush_folder
from lenssteer.errors import FileError, ModelError
from lenssteer.models.checkpoint import Checkpoint
from lenssteer.models.folding import fold
from lenssteer.models.lens import LensModel
from lenssteer.models.loading import load_model
from lenssteer.models.proof import PROBES, Proof, Witness
from lenssteer.prompts import Prompt
from lenssteer.site import Site


def bake(
    source: str | Path,
    target: str | Path,
    edits: Mapping[Site, Any],
    *,
    force: bool = False,
    untie: bool = False,
    proof: bool = True,
    accept: Callable[[LensModel], None] | None = None,
    backend: str = "hf",
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    template: str = "auto",
    prompts: Sequence[Prompt] = PROBES,
) -> Proof | None:
    """Write a copy of a checkpoint folder that computes what the original computes with edits at all tokens.

    Shards keep their names and are written one at a time, so that about two shards are in memory at once; config and
    tokenizer files are copied. The folder appears only when all is written and the proof holds.

    Args:
        source: "demo", a folder of safetensors in Hugging Face layout, or a hub id.
        target: Folder to write; must not exist.
        edits: At sites; see `fold` for what weights can take.
        force: See `fold`; also keeps a copy whose proof does not hold.
        untie: See `fold`.
        proof: Whether to run the original and the copy, one after the other, and compare; needs memory for the model.
        accept: Called with the original where it is run; raises when the edits are not for it.
        backend: What runs the models for the proof; likewise `dtype`, `device` and `template`.
        prompts: Probe batch of the proof.

    Returns:
        The proof, where there is one.

    Raises:
        SteeringError, ModelError, ShapeError: when `fold` refuses the edits or the checkpoint.
        ModelError: when the proof does not hold.
        FileError: when the source has no safetensors, or the target exists or cannot be written.
    """
    checkpoint, target = Checkpoint.open(source), Path(target)
    folds = fold(checkpoint.shapes, checkpoint.config, edits, force=force, untie=untie)
    refuse_integers({name: checkpoint.dtypes[name] for name in [*folds.changes, *folds.created]
                     if name in checkpoint.dtypes and name not in checkpoint.floating})
    with apart(target) as place:
        if target.exists():
            raise FileError(f"{target} exists; name a new folder for the copy.")
        loading = {"backend": backend, "dtype": dtype, "device": device, "template": template}
        part = place / target.name
        witness = _witness(load_model(source, **loading), edits, prompts, accept) if proof else None
        checkpoint.rewrite(part, folds.stored, folds.config)
        found = witness.compare(load_model(part, **loading)) if witness is not None else None
        if found is not None and not found.holds and not force:
            raise ModelError(f"the copy differs from the model steered at run time by {found.difference:.3g} logits, "
                             f"where steering changes {found.effect:.3g}; nothing was written. Use the steerer, or "
                             "force=True.")
        _name(part, target)
    return found


def _name(part: Path, target: Path) -> None:
    """Give a finished folder its name.

    Raises:
        FileError: when another process was first, or the folder cannot be moved.
    """
    try:
        os.rename(part, target)
        flush_folder(target.parent)
    except OSError as error:
        raise FileError(f"cannot name the finished copy {target}: {error}. Give the same command again, with a new "
                        "name where it exists.") from error


def _witness(model: LensModel, edits: Mapping[Site, Any], prompts: Sequence[Prompt],
             accept: Callable[[LensModel], None] | None) -> Witness:
    """What the original shows; it is let go of before the copy is loaded."""
    if accept is not None:
        accept(model)
    return Witness.of(model, edits, prompts)


def refuse_integers(dtypes: Mapping[str, str]) -> None:
    """Refuse weights that are not stored as ordinary numbers.

    Args:
        dtypes: Of the tensors that would change and are not stored as such, by name.

    Raises:
        ModelError: when there are any.
    """
    if dtypes:
        name, dtype = next(iter(dtypes.items()))
        raise ModelError(f"{name} is stored as {dtype}; quantised weights cannot be edited, use the original ones.")
