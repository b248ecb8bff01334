"""A standalone PyTorch file with the tensors beside it: steering where lenssteer is not installed."""

import re
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from lenssteer.artefacts.lines import apart
from lenssteer.artefacts.writing import settle
from lenssteer.edits import LowRankEdit
from lenssteer.errors import FileError, MismatchError
from lenssteer.exports import torch_lines as lines
from lenssteer.exports.carrying import plain_edits
from lenssteer.models.modules import Side, module_sites
from lenssteer.site import Site
from lenssteer.steering import Steerer

TENSORS = "tensors.safetensors"
FILE = "steer.py"


def export_torch(steerer: Steerer, model: str | Path, folder: str | Path) -> Path:
    """Write `steer.py`, which needs torch, safetensors and transformers alone, and `tensors.safetensors`.

        from steer import steered
        with steered(hf_model):
            hf_model.generate(**inputs)

    The file holds only the lines of the formula that this steerer uses. It comes last: a folder without it is not
    finished.

    Args:
        steerer: Low-rank edits, where="all", "prompt" or "generated".
        model: The folder or hub id it was made for; its config says which modules its sites are.
        folder: To write.

    Raises:
        SteeringError: when the steerer has gates, schedules, rows, SAE latents, or another rule for tokens.
        MismatchError: when the model has no such site.
        FileError: when the folder cannot be written.
    """
    edits = plain_edits(steerer, "a hook file", ("all", "prompt", "generated"))
    modules = module_sites(model)
    absent = next((site for site in edits if site not in modules), None)
    if absent is not None:
        raise MismatchError(f"{model} has no {absent}; it has {len(modules)} sites, up to {max(modules)}.")
    tensors = {f"{site}/{part}": t.detach().cpu().clone().contiguous() for site, edit in edits.items()
               for part, t in edit.tensors().items()}
    text = _text(steerer, edits, {site: modules[site] for site in edits})
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with apart(folder / FILE) as place:
            save_file(tensors, place / TENSORS)
            (place / FILE).write_text(text, encoding="utf-8")
            # An older file may not meet new tensors.
            (folder / FILE).unlink(missing_ok=True)
            for name in (TENSORS, FILE):
                settle(place / name, folder / name)
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    return folder


def _text(steerer: Steerer, edits: dict[Site, LowRankEdit], modules: dict[Site, tuple[str, Side]]) -> str:
    """The file; lines that this steerer does not need are left out."""
    anywhere = list(edits.values())
    radial, gated, normed = (any(map(asked, anywhere)) for asked in (
        lambda edit: edit.is_radial, lambda edit: edit.gate is not None, lambda edit: edit.norm != "none"))
    inputs = any(side != "output" for _, side in modules.values())
    sites = "".join(
        f"    {str(site)!r}: {(*modules[site], edit.norm, edit.radius)!r},\n" for site, edit in edits.items())
    what = _plain(f"{steerer.provenance.get('method', 'steering')} of "
                  f"{steerer.card.name if steerer.card else 'a model'}")
    head = lines.HEAD.replace("{what}", what).replace("{version}", version("lenssteer")).replace(
        "{where}", repr(str(steerer.where))).replace("{sites}", sites)
    return "".join([
        head, lines.PLACE, lines.UPDATE, lines.RADIAL if radial else "", lines.GATE if gated else "",
        lines.NORM if normed else lines.RETURN, lines.OUTPUT, lines.INPUT if inputs else "", lines.STEERED,
        lines.EVERYWHERE if str(steerer.where) == "all" else lines.SOMEWHERE, lines.ATTACH,
        lines.ATTACH_BOTH if inputs else lines.ATTACH_OUTPUT, lines.YIELD])


def _plain(text: str) -> str:
    """Names from an artefact as they may stand in a docstring."""
    return re.sub(r"[^\w\s./:,-]", " ", text).replace("\n", " ")

