"""The figures of a report, from plain data.

`layout.meta` holds what changes between a wide and a narrow screen, as plotly relayout keys; page.js applies it.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import plotly.graph_objects as go

from lenssteer.report.style import BLUE, GREEN, GREY, GRID, ORANGE, PURPLE, RED, SKY, axis, figure, plain
from lenssteer.report.words import Record, as_rows, label
from lenssteer.rows import Row, wilson_interval

Layer = Mapping[str, Any]
MEASURES = (("harmful", "refusal", "harmful: refused", RED), ("harmful", "on_form", "harmful: on form", BLUE),
            ("harmful", "exact", "harmful: exact", SKY), ("harmless", "exact", "harmless: exact", GREEN))
LINES = ((BLUE, "solid"), (SKY, "dash"), (ORANGE, "solid"), (GREEN, "dot"), (PURPLE, "dashdot"), (RED, "solid"))


def layer_figure(layers: Sequence[Layer]) -> go.Figure:
    """Where each class of requests lies along the global direction, site after site.

    Args:
        layers: One mapping a site, in network order; see `Calibration.table`.
    """
    shown = figure(420, hovermode="x unified", margin={"l": 10, "r": 10, "t": 60, "b": 10},
                   xaxis=axis("site, in network order", type="category", tickangle=-60, showgrid=False),
                   yaxis=axis("mean projection on the direction", zeroline=True, zerolinecolor=GREY, zerolinewidth=2))
    shown.add_traces([_class_line(layers, "positive", "harmful requests", RED, "circle"),
                      _class_line(layers, "negative", "harmless requests", BLUE, "diamond")])
    shown.add_trace(_key("discriminative site", "square", SKY, 0.35))
    for first, last in _runs([layer["discriminative"] for layer in layers]):
        shown.add_vrect(x0=first - 0.5, x1=last + 0.5, fillcolor=SKY, opacity=0.18, line_width=0, layer="below")
    if any(layer["degenerate"] for layer in layers):
        shown.add_trace(_degenerate(layers))
    return shown


def _class_line(layers: Sequence[Layer], key: str, name: str, colour: str, symbol: str) -> go.Scatter:
    hover = [_site_note(layer) for layer in layers] if key == "positive" else [""] * len(layers)
    return go.Scatter(x=[plain(layer["site"]) for layer in layers], y=[layer[key] for layer in layers], name=name,
                      mode="lines+markers", line={"color": colour, "width": 2}, marker={"symbol": symbol, "size": 8},
                      customdata=hover, hovertemplate="%{y:.3f}%{customdata}")


def _site_note(layer: Layer) -> str:
    cosine, effect = layer.get("mean_cosine"), layer.get("effect_size")
    parts = [f"mean cosine {cosine:.2f}" if cosine is not None else "",
             f"effect size {effect:.1f}" if effect is not None else ""]
    return "".join(f" · {part}" for part in parts if part)


def _degenerate(layers: Sequence[Layer]) -> go.Scatter:
    marked = [layer for layer in layers if layer["degenerate"]]
    return go.Scatter(x=[plain(layer["site"]) for layer in marked], y=[layer["positive"] for layer in marked],
                      mode="markers", name="degenerate: classes do not differ", hovertemplate="not used",
                      marker={"symbol": "x-thin", "size": 11, "line": {"color": GREY, "width": 3}})


def _key(name: str, symbol: str, colour: str, opacity: float) -> go.Scatter:
    """A line of the legend for something that is not a trace."""
    return go.Scatter(x=[None], y=[None], mode="markers", name=name, hoverinfo="skip",
                      marker={"symbol": symbol, "size": 14, "color": colour, "opacity": opacity})


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of every run of true flags.

    >>> _runs([True, True, False, True])
    [(0, 1), (3, 3)]
    """
    groups = [list(group) for flag, group in groupby(range(len(flags)), lambda i: bool(flags[i])) if flag]
    return [(group[0], group[-1]) for group in groups]


def series(sweep: Sequence[Record]) -> dict[str, list[Row]]:
    """The rows of every method and choice of sites that was swept over angles, by angle."""
    rows = [row for row in as_rows(sweep) if row.degrees is not None]
    names = dict.fromkeys(label(row, setting=False) for row in rows)
    return {name: sorted((row for row in rows if label(row, setting=False) == name), key=lambda r: r.degrees or 0.0)
            for name in names}


def circle_figure(sweep: Sequence[Record]) -> go.Figure:
    """Two steering circles, of harmful requests refused and answered on form: angle against share.

    Args:
        sweep: Rows with `degrees`, or their dictionaries; every method and choice of sites becomes a line.
    """
    heads = [{"text": f"<b>{text}</b>", "x": 0.5, "y": 1.0, "xref": "paper", "yref": "paper", "showarrow": False,
              "xanchor": "center", "yanchor": "bottom", "yshift": 26}
             for text in ("Harmful requests refused", "Harmful requests answered on form")]
    shown = figure(500, annotations=heads, margin={"l": 30, "r": 30, "t": 60, "b": 30},
                   polar=_polar_axes(), polar2=_polar_axes(), meta={"wide": _WIDE, "narrow": _NARROW})
    for number, (name, rows) in enumerate(series(sweep).items()):
        colour, dash = LINES[number % len(LINES)]
        for subplot, rate in (("polar", "refusal"), ("polar2", "on_form")):
            shown.add_trace(_circle_line(name, rows, rate, subplot, {"color": colour, "dash": dash, "width": 2.5}))
    shown.update_layout(_WIDE)
    return shown


_WIDE = {"height": 500, "polar.domain.x": [0, 0.44], "polar.domain.y": [0, 1], "polar2.domain.x": [0.56, 1],
         "polar2.domain.y": [0, 1], "annotations[0].x": 0.22, "annotations[1].x": 0.78, "annotations[1].y": 1.0,
         "legend.y": -0.1, "legend.yanchor": "top", "margin.l": 30, "margin.r": 30}
_NARROW = {"height": 860, "polar.domain.x": [0, 1], "polar.domain.y": [0.58, 1], "polar2.domain.x": [0, 1],
           "polar2.domain.y": [0, 0.42], "annotations[0].x": 0.5, "annotations[1].x": 0.5, "annotations[1].y": 0.42,
           "legend.y": -0.08, "legend.yanchor": "top", "margin.l": 44, "margin.r": 44}


def _polar_axes() -> dict[str, Any]:
    return {"bgcolor": "rgba(0,0,0,0)",
            "angularaxis": {"direction": "counterclockwise", "rotation": 0, "dtick": 45, "ticksuffix": "°",
                            "gridcolor": GRID, "linecolor": GREY, "layer": "below traces"},
            "radialaxis": {"range": [0, 1], "tickvals": [0.5, 1], "tickformat": ".0%", "angle": 22.5,
                           "tickangle": 22.5, "gridcolor": GRID, "showline": False, "layer": "below traces"}}


def _circle_line(name: str, rows: Sequence[Row], rate: str, subplot: str, line: dict[str, Any]) -> go.Scatterpolar:
    """One line, closed by its first point."""
    closed = [*rows, rows[0]]
    return go.Scatterpolar(theta=[row.degrees for row in closed], r=[getattr(row.harmful, rate) for row in closed],
                           subplot=subplot, mode="lines", cliponaxis=False, line=line, name=plain(name),
                           legendgroup=plain(name), showlegend=subplot == "polar2", hovertemplate="%{theta}: %{r:.1%}")


def comparison_figure(rows: Sequence[Record]) -> go.Figure:
    """Bars of the main rates of every row, with 95% Wilson intervals.

    Args:
        rows: Rows or their dictionaries, drawn from the top down.
    """
    found = as_rows(rows)
    shown = figure(110 + 62 * len(found), barmode="group", bargap=0.3, hovermode="closest",
                   margin={"l": 10, "r": 20, "t": 60, "b": 10},
                   xaxis=axis("share of answers", range=[0, 1.02], tickformat=".0%"),
                   yaxis=axis(type="category", autorange="reversed", showgrid=False),
                   meta={"wide": {"yaxis.tickfont.size": 13}, "narrow": {"yaxis.tickfont.size": 11}})
    shown.add_traces([_bars(found, *measure) for measure in MEASURES])
    return shown


def _bars(rows: Sequence[Row], kind: str, rate: str, name: str, colour: str) -> go.Bar:
    rates = [getattr(row, kind) for row in rows]
    shares = [getattr(rated, rate) for rated in rates]
    ends = [wilson_interval(share, rated.n) for share, rated in zip(shares, rates, strict=True)]
    error = {"type": "data", "symmetric": False, "color": GREY, "thickness": 1.5, "width": 3,
             "array": [high - share for share, (_, high) in zip(shares, ends, strict=True)],
             "arrayminus": [share - low for share, (low, _) in zip(shares, ends, strict=True)]}
    return go.Bar(orientation="h", x=shares, y=[_stacked(row) for row in rows], name=name, marker_color=colour,
                  error_x=error, visible="legendonly" if name == "harmful: exact" else True,
                  customdata=[f"{low:.0%} to {high:.0%}" for low, high in ends],
                  hovertemplate=f"{name}<br>%{{x:.1%}} (%{{customdata}})<extra></extra>")


def _stacked(row: Row) -> str:
    method, *others = plain(label(row)).split(", ")
    return "<br>".join([f"<b>{method}</b>", *others])
