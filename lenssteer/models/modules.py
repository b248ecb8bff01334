"""Which modules of a Hugging Face model are its sites, from its config alone."""

from pathlib import Path
from typing import Any, Literal

import torch

from lenssteer.errors import ModelError
from lenssteer.models.checkpoint import model_folder
from lenssteer.models.hf import _module, blocks_of, streams_of
from lenssteer.site import Site

Side = Literal["output", "input", "in place"]


def module_sites(source: str | Path) -> dict[Site, tuple[str, Side]]:
    """Every site of a model as the name of a module, and what of it is edited.

    "in place" is the input of a module where the caller goes on using the same tensor, as for resid_mid.

    Args:
        source: "demo", a folder with a config in Hugging Face layout, or a hub id; no weights are read.

    Raises:
        ModelError: when there is no such model, or its blocks are in no place lenssteer knows.
    """
    model = _empty(source)
    names = {id(module): name for name, module in model.named_modules()}
    found: dict[Site, tuple[str, Side]] = {}
    for layer, block in enumerate(blocks_of(model)):
        for stream in streams_of(block):
            site = Site(layer, stream)
            if stream in ("resid_pre", "resid_post"):
                found[site] = names[id(block)], "input" if stream == "resid_pre" else "output"
            elif stream == "resid_mid":
                found[site] = names[id(_module(block, "ln2_out"))], "in place"
            else:
                found[site] = names[id(_module(block, stream))], "output"
    return found


def _empty(source: str | Path) -> Any:
    """The model without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(model_folder(source), local_files_only=True)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot build {source} from its config: {str(error).splitlines()[0]}") from error
