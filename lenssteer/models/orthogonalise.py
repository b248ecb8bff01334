"""Weight orthogonalisation: the direction is taken out of every weight that writes to the residual stream."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lenssteer.errors import ModelError, ShapeError
from lenssteer.models.affine import checked
from lenssteer.models.baking import bake, refuse_integers
from lenssteer.models.checkpoint import Checkpoint
from lenssteer.models.folding import fold
from lenssteer.models.proof import PROBES, Proof, ablation
from lenssteer.prompts import Prompt


@torch.no_grad()
def orthogonalise(model: Any, direction: Float[Tensor, " d_model"], *, force: bool = False, untie: bool = False) -> Any:
    """A copy of a Hugging Face model that cannot write along a direction.

    Embedding, learned positions, attention outputs, MLP and expert outputs and their biases are edited; the original is
    left as it was. Its logits are those of ablation at resid_pre, attn_out and mlp_out of every block, at all tokens.

    Args:
        model: A Hugging Face causal language model.
        direction: Any length.
        force: See `fold`.
        untie: Give the copy of a tied model an unembedding of its own, the original one, so that it is exact too.

    Raises:
        ModelError: when the architecture is unknown, tied, or norms its parts' outputs; see `fold`.
        ShapeError: when the direction is of another d_model.
        DirectionError: when the direction is zero or not finite.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 4.1 and appendix E. Departs from the authors' code: output
    biases and experts are edited too, and a copy in place of the model itself.
    """
    if "PreTrainedModel" not in {base.__name__ for base in type(model).__mro__}:
        raise ModelError(f"cannot orthogonalise a {type(model).__name__}; expected a Hugging Face causal language "
                         "model, or use orthogonalise_checkpoint on its folder.")
    config = model.config.get_text_config()
    edits = ablation(_fitting(direction, config), config.num_hidden_layers)
    folds = fold({name: tuple(p.shape) for name, p in model.named_parameters()}, config, edits, force=force,
                 untie=untie)
    refuse_integers({name: str(model.get_parameter(name).dtype) for name in folds.changes
                     if not model.get_parameter(name).is_floating_point()})
    copy = deepcopy(model)
    if folds.untied:
        copy.get_output_embeddings().weight = torch.nn.Parameter(
            model.get_input_embeddings().weight.detach().clone(), requires_grad=False)
        copy.config.tie_word_embeddings = copy.config.get_text_config().tie_word_embeddings = False
    for name, change in folds.changes.items():
        copy.get_parameter(name).copy_(change(model.get_parameter(name)))
    return copy


def orthogonalise_checkpoint(
    source: str | Path,
    target: str | Path,
    direction: Float[Tensor, " d_model"],
    *,
    force: bool = False,
    untie: bool = False,
    backend: str = "hf",
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    template: str = "auto",
    prompts: Sequence[Prompt] = PROBES,
) -> Proof:
    """Write an orthogonalised copy of a checkpoint folder, and compare it with ablation at run time; see `bake`.

    Args:
        source: "demo", a folder of safetensors in Hugging Face layout, or a hub id.
        target: Folder to write; must not exist.
        direction: Any length.
        force: See `fold`; also keeps a copy whose proof does not hold.
        untie: See `orthogonalise`; the folder then holds one tensor more.
        backend: What runs both models for the proof; likewise `dtype`, `device` and `template`.
        prompts: Probe batch of the proof.

    Raises:
        ModelError: when `fold` refuses the checkpoint, or the proof does not hold.
        FileError: when the source has no safetensors, or the target exists or cannot be written.
        ShapeError, DirectionError: when the direction does not fit.
    """
    config = Checkpoint.open(source).config
    edits = ablation(_fitting(direction, config), config.num_hidden_layers)
    return bake(source, target, edits, force=force, untie=untie, backend=backend, dtype=dtype, device=device,
                template=template, prompts=prompts)  # type: ignore[return-value]  # proved unless told not to


def _fitting(direction: Tensor, config: Any) -> Tensor:
    unit = checked(direction)
    if len(unit) != config.hidden_size:
        raise ShapeError(f"the direction has {len(unit)} values, the model's d_model is {config.hidden_size}.")
    return unit
