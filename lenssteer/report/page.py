"""The page: sections in reading order, in one file that needs no network."""

from importlib.resources import files
from pathlib import Path
from string import Template

from lenssteer.artefacts.writing import write_text
from lenssteer.report import draw
from lenssteer.report.markup import Html, join, safe, slug
from lenssteer.report.parts import AnyPart, Document


def write_report(document: Document, path: Path | str, *, show_completions: bool = False) -> Path:
    """Write a document as one HTML file that opens offline.

    Args:
        document: What a study found.
        path: File to write; an older one is replaced.
        show_completions: Whether answers to harmful prompts are in the file, folded.

    Returns:
        The path.

    Raises:
        FileError: when the file cannot be written.
    """
    path = Path(path)
    write_text(path, _page(document, show_completions), follow=True)
    return path


def keyed(document: Document) -> list[AnyPart]:
    """The parts, each with a key of its own that an anchor and a file can bear."""
    used: set[str] = {"making"}
    found = []
    for part in document.parts:
        key, number = slug(part.key), 2
        while key in used:
            key, number = f"{slug(part.key)}-{number}", number + 1
        used.add(key)
        found.append(part.model_copy(update={"key": key}))
    return found


def _page(document: Document, show_completions: bool) -> str:
    parts = keyed(document)
    sections = [draw.section(part, show_completions=show_completions) for part in parts]
    shown = [part for part, made in zip(parts, sections, strict=True) if made]
    body = join([draw.opening(document, shown), *sections, draw.making(document)])
    drawn = any(draw.figures(part) for part in parts)
    return Template(_package_file("page.html")).substitute(
        title=safe(document.title), css=_package_file("page.css"), body=body, plotly=_plotly() if drawn else "",
        script=_package_file("page.js"))


def _plotly() -> Html:
    """plotly.js, once, for a page that has figures."""
    from plotly.offline import get_plotlyjs

    return Html(f"<script>{get_plotlyjs()}</script>")


def _package_file(name: str) -> str:
    return (files("lenssteer.report") / name).read_text(encoding="utf-8")
