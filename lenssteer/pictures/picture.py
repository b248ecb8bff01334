"""A picture with what it shows in words."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from lenssteer.artefacts.writing import write_text

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>:root {{ color-scheme: light dark }} body {{ margin: 1rem; font-family: system-ui }}
</style><body>{body}</body></html>
"""


@dataclass(frozen=True, eq=False)
class Picture:
    """A plotly figure; a notebook shows it when it is the last thing in a cell.

    Args:
        plot: What plotly draws.
        alt: What it shows, with the main numbers, for a reader who cannot see it.
    """

    plot: go.Figure
    alt: str

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What a notebook shows: plotly's own bundle, with the words where it cannot draw."""
        return {**(self.plot._repr_mimebundle_(*args, **kwargs) or {}), "text/plain": self.alt}

    @property
    def html(self) -> str:
        """The picture alone, as HTML that needs nothing else; about 5 MB, most of it plotly."""
        drawn = self.plot.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False},
                                  auto_play=False)
        return f'<figure role="img" aria-label="{escape(self.alt)}" style="margin:0">{drawn}</figure>'

    def save(self, path: Path | str) -> Path:
        """Write a page that opens without a network.

        Raises:
            FileError: when it cannot be written.
        """
        return write_page(path, self.alt, self.html)


def write_page(path: Path | str, title: str, body: str) -> Path:
    """An HTML page of one picture.

    Raises:
        FileError: when it cannot be written.
    """
    write_text(Path(path), PAGE.format(title=escape(title), body=body), follow=True)
    return Path(path)
