"""Documents as JSON."""

from pathlib import Path

from pydantic import ValidationError

from lenssteer.artefacts import limits
from lenssteer.artefacts.parsing import parse
from lenssteer.artefacts.reading import read_bytes
from lenssteer.artefacts.writing import write_text
from lenssteer.errors import FileError
from lenssteer.report.draw.texts import withheld
from lenssteer.report.parts import Document, Texts


def write_document(document: Document, path: Path | str, *, show_completions: bool = False) -> Path:
    """Write a document as JSON, which `read_document` and `lenssteer report` read.

    Args:
        document: What a study found.
        path: File to write; an older one is replaced.
        show_completions: Whether answers to harmful prompts are in the file.

    Raises:
        FileError: when the file cannot be written.
    """
    parts = [withheld(part) if isinstance(part, Texts) and not show_completions else part for part in document.parts]
    path = Path(path)
    write_text(path, document.model_copy(update={"parts": parts}).model_dump_json(indent=1) + "\n", follow=True)
    return path


def read_document(path: Path | str) -> Document:
    """A document from JSON.

    Raises:
        FileError: when the file cannot be read, or is no document.
    """
    path = Path(path)
    try:
        text = read_bytes(path, limits.PROMPTS)
        parse(text, path, fault="is not a report")
        return Document.model_validate_json(text)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise FileError(f"{path} is not a report: {error.error_count()} faults, the first at {where}: {first['msg']}. "
                        "Expected what `lenssteer demo -o FILE.json` or another study writes.") from error
