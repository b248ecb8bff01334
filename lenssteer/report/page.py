"""The page: sections in reading order, in one file that needs no network."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from lenssteer.errors import FileError, ParameterError
from lenssteer.report import sections
from lenssteer.report.markup import join, safe
from lenssteer.report.words import Record, as_rows
from lenssteer.rows import Row


def write_report(result: Mapping[str, Any], path: Path | str) -> Path:
    """Write the results of a run as one HTML file that opens offline.

    Args:
        result: What a study returns. Only "rows" is needed; a part that is absent is left out of the page.
        path: File to write; an older one is replaced.

    Returns:
        The path.

    Raises:
        ParameterError: when there are no rows, or a part is not what it should be.
        FileError: when the file cannot be written.
    """
    path = Path(path)
    text = _page(result)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error}") from error
    return path


def _page(result: Mapping[str, Any]) -> str:
    title = str(result.get("title") or "lenssteer report")
    try:
        body = join(_parts(result, title))
    except (TypeError, KeyError, AttributeError) as error:
        raise ParameterError(f"the result has a part of another shape: {type(error).__name__}: {error}.") from error
    return Template(_package_file("page.html")).substitute(
        title=safe(title), css=_package_file("page.css"), body=body, plotly=get_plotlyjs(),
        script=_package_file("page.js"))


def _parts(result: Mapping[str, Any], title: str) -> list[str]:
    rows = _required(result.get("rows") or [])
    return [
        sections.opening(title, result.get("note") or "", rows),
        sections.headline(rows, chosen=bool(result.get("chosen"))),
        sections.comparison(rows),
        sections.circle(as_rows(result.get("sweep") or [])),
        sections.layers(result.get("layers") or []),
        sections.texts(result.get("texts") or []),
        sections.receipts(result.get("receipts") or {}),
        sections.making(result),
    ]


def _required(records: Sequence[Record]) -> list[Row]:
    if not records:
        raise ParameterError("a report needs at least one row; result['rows'] is empty or absent.")
    return as_rows(records)


def _package_file(name: str) -> str:
    return (files("lenssteer.report") / name).read_text(encoding="utf-8")
