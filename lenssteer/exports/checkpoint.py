"""Hugging Face checkpoints with the steering in their weights."""

from pathlib import Path

import torch

from lenssteer.errors import MismatchError
from lenssteer.exports.carrying import plain_edits
from lenssteer.models.baking import bake
from lenssteer.models.checkpoint import Checkpoint
from lenssteer.models.proof import Proof
from lenssteer.steering import Steerer


def export_checkpoint(
    steerer: Steerer,
    model: str | Path,
    folder: str | Path,
    *,
    proof: bool = True,
    untie: bool = False,
    backend: str = "hf",
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
) -> Proof | None:
    """Write a copy of a checkpoint that computes, without hooks, what the model computes under a steerer.

    Ablation at every write, additions at any site, rotations by an angle at the outputs of norms, and any other affine
    edit of a norm's, attention's or MLP's output become weights and biases; all else is refused.

    Args:
        steerer: With where="all".
        model: The folder or hub id it was made for.
        folder: To write; must not exist.
        proof: Whether to run both models and compare their logits; without it the checkpoint is never loaded whole,
            and only width and layers are compared with the steerer's model.
        untie: Give a tied model whose embedding changes an unembedding of its own.
        backend: What runs the models for the proof; likewise `dtype` and `device`.

    Raises:
        SteeringError: when no weights equal the steerer.
        ModelError: when the architecture has no place for it, or the proof does not hold.
        MismatchError: when the steerer was made for another model.
        FileError: when the source has no safetensors, or the folder exists or cannot be written.
    """
    edits = plain_edits(steerer, "a checkpoint")
    _refuse_other_shape(steerer, model)
    return bake(model, folder, edits, untie=untie, proof=proof, accept=steerer.check, backend=backend, dtype=dtype,
                device=device)


def _refuse_other_shape(steerer: Steerer, model: str | Path) -> None:
    config, card = Checkpoint.open(model).config, steerer.card
    if card is not None and (card.d_model, card.n_layers) != (config.hidden_size, config.num_hidden_layers):
        raise MismatchError(f"made on {card.name} with {card.n_layers} layers of width {card.d_model}; {model} has "
                            f"{config.num_hidden_layers} of width {config.hidden_size}. Calibrate on this model.")
