"""The folder of an automatic run: what was asked, and what is known so far."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenssteer.artefacts.reading import read_object
from lenssteer.artefacts.schema.auto import Asked, AutoCard, Tested
from lenssteer.artefacts.schema.record import Record, described
from lenssteer.errors import FileError, LenssteerError, MismatchError
from lenssteer.models import LensModel
from lenssteer.studies.concepts import Material
from lenssteer.sweeps.search.record import write_json

ASKED, TESTED, CARD = "auto.json", "tested.json", "card.json"
SCHEMAS: Mapping[str, type[Record]] = {ASKED: Asked, TESTED: Tested, CARD: AutoCard}


def known(model: LensModel, material: Material, method: str | None, seed: int) -> dict[str, Any]:
    """What identifies a run: model, prompts, judge and everything that is chosen by hand."""
    return {"kind": "auto", "format": 1, "concept": material.concept.name, "method": method, "seed": seed,
            "model": model.card.fingerprint or model.card.name, "template": model.template,
            "prompts": {name: part.sha256 for name, part in material.parts.items()},
            "max_new_tokens": material.decoding.max_new_tokens, "judge": material.judge.name}


def refuse_another(folder: Path, asked: Mapping[str, Any]) -> None:
    """Refuse a folder that holds the run of another question.

    Raises:
        MismatchError: with what differs.
    """
    written = read(folder / ASKED)
    other = [name for name in asked if written.get(name) != asked[name]]
    if written and other:
        raise MismatchError(f"{folder} holds another run: it differs in {', '.join(other)}. Choose another folder with "
                            "-o.")


def begin(folder: Path, asked: Mapping[str, Any], before: Mapping[str, float]) -> None:
    """Write what is asked, once it is known to be worth it, so that a refused run may be mended in its folder.

    Raises:
        FileError: when the folder cannot be written.
    """
    if (folder / ASKED).exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    write_json(folder / ASKED, asked)
    write_json(folder / TESTED, {"before": dict(before)})


def read(path: Path) -> dict[str, Any]:
    """One of the folder's JSON files; an empty object where there is none.

    Raises:
        FileError: when it is damaged.
    """
    try:
        found, text = read_object(path)
        described(SCHEMAS[path.name], text, path)
    except FileNotFoundError:
        return {}
    except (OSError, LenssteerError) as error:
        raise FileError(f"{error} Or remove {path}, and run the same command again.") from error
    return found
