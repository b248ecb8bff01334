"""Looks shared by all figures: readable on light and dark pages, and without telling colours apart."""

from html import escape
from typing import Any

import plotly.graph_objects as go

GREY = "#7a7a7a"
GRID = "rgba(128,128,128,0.28)"
BLUE, SKY, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
"""Colours of Okabe & Ito 2008 (https://jfly.uni-koeln.de/color)."""


def plain(text: object) -> str:
    """Text for a figure, whose labels plotly reads as HTML."""
    return escape(str(text), quote=False)


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure on a transparent page, without gestures that would catch a scrolling finger."""
    return go.Figure(layout=go.Layout(
        template=go.layout.Template(), height=height, dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": GREY},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": GREY},
        hoverlabel={"bgcolor": "#26292e", "bordercolor": "#26292e", "font": {"color": "#f2f2f2", "size": 13}},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "xanchor": "left"}, **layout))


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """An axis with faint lines, fixed so that it does not zoom by accident."""
    return {"title": {"text": title}, "gridcolor": GRID, "linecolor": GRID, "zeroline": False, "fixedrange": True,
            "automargin": True, **settings}
