"""The sections of a report, each from its part of the result; a part that is absent makes an empty section."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from lenssteer.report import captions, sentences
from lenssteer.report.figures import circle_figure, comparison_figure, layer_figure
from lenssteer.report.markup import Html, definitions, details, element, join, section
from lenssteer.report.tables import circle_table, headline_table, layer_table, receipt_table
from lenssteer.report.words import METHODS, MODEL, RATES
from lenssteer.rows import Row

Part = Mapping[str, Any]
NOTHING = Html("")


def opening(title: str, note: str, rows: Sequence[Row]) -> Html:
    """Title, outcome, and a note of the study's own."""
    lines = ((sentences.statement(rows), "lead"), (sentences.control_sentence(rows), ""), (note, "note"))
    return element("header", element("h1", title), *(element("p", text, class_=kind) for text, kind in lines if text))


def headline(rows: Sequence[Row], chosen: bool) -> Html:
    """The table of all rows, and what its words mean."""
    measured = f"Each line is one way of steering, measured on {sentences.counts(rows)}."
    elsewhere = " Settings were chosen on other requests; see the last section." if chosen else ""
    used = {name: said for name, said in METHODS.items() if any(row.method == name for row in rows)}
    tie = element("p", sentences.tie_sentence(rows), class_="fine") if sentences.tie_sentence(rows) else NOTHING
    return section("Results", element("p", f"{measured}{elsewhere} {captions.HEADLINE}"), headline_table(rows), tie,
                   details("What the words mean", definitions({**RATES, **used})), key="results")


def comparison(rows: Sequence[Row]) -> Html:
    """The rows as bars."""
    alt = f"Bar chart of the rates in the table of results. {sentences.statement(rows)}"
    return section("Methods side by side", element("p", captions.COMPARISON),
                   _figure("comparison", comparison_figure(rows), alt),
                   details("The bars as a table", headline_table(rows)), key="side-by-side")


def circle(sweep: Sequence[Row]) -> Html:
    """The steering circle, where rotations were swept."""
    if not any(row.degrees is not None for row in sweep):
        return NOTHING
    peaks = sentences.peaks(sweep)
    alt = f"Two polar charts, by angle, of harmful requests refused and answered on form. {'; '.join(peaks)}."
    measured = f"Measured on {sentences.counts(sweep)} that were used to choose settings, not on those of the results."
    return section("The steering circle", element("p", f"{captions.CIRCLE} {measured}"),
                   element("p", captions.CIRCLE_ZERO), _figure("circle", circle_figure(sweep), alt),
                   element("ul", *(element("li", peak) for peak in peaks)),
                   details("Every angle as a table", circle_table(sweep)), key="steering-circle")


def layers(found: Sequence[Part]) -> Html:
    """Projections of both classes, site after site."""
    if not found:
        return NOTHING
    summary = sentences.site_summary(found)
    alt = f"Line chart of mean projections of harmful and harmless requests at every site. {summary}"
    return section("Where the model tells the requests apart", element("p", captions.LAYERS),
                   _figure("layers", layer_figure(found), alt), element("p", summary),
                   details("Every site as a table", layer_table(found)), key="sites")


def _figure(key: str, figure: go.Figure, alt: str) -> Html:
    """A place for plotly to draw in, and what to draw; "<" cannot end the script from inside a string."""
    spec = str(figure.to_json()).replace("<", "\\u003c")
    return element("figure", element("div", id=key, class_="plot", role="img", aria_label=alt),
                   Html(f'<script type="application/json" id="{key}-spec">{spec}</script>'))


def texts(found: Sequence[Part]) -> Html:
    """Answers to the same requests side by side."""
    if not found:
        return NOTHING
    return section("Before and after", element("p", captions.TEXTS), *map(_card, found), key="texts")


def _card(text: Part) -> Html:
    answers = [element("div", element("h4", name), element("p", answer or "(empty)"),
                       class_="answer first" if name == "unsteered" else "answer")
               for name, answer in text["answers"].items()]
    kind = element("span", text["kind"], class_=f"kind {text['kind']}")
    return element("article", element("h3", kind, " ", text["prompt"]), element("div", *answers, class_="answers"),
                   class_="card")


def receipts(found: Mapping[str, Part]) -> Html:
    """What the edits did, folded."""
    if not found:
        return NOTHING
    return section("Receipts", element("p", captions.RECEIPTS), details("Every method and site", receipt_table(found)),
                   key="receipts")


def making(result: Part) -> Html:
    """How to make the report again."""
    command, seconds = result.get("command"), result.get("seconds")
    run = {"lenssteer": result.get("version"), "Seed": result.get("seed"),
           "Time": None if seconds is None else f"{seconds:.1f} seconds"}
    model = {MODEL.get(key, str(key).capitalize()): value for key, value in (result.get("model") or {}).items()}
    again = [element("p", "To reproduce it, run:"), element("pre", element("code", command))] if command else []
    facts = [_facts("Run", run), _facts("Model", model), _facts("Settings", result.get("chosen") or {})]
    return section("How this was made", *again, *facts, key="making") if join([*again, *facts]) else NOTHING


def _facts(name: str, facts: Part) -> Html:
    known = {key: value for key, value in facts.items() if value not in (None, "")}
    return join([element("h3", name), definitions(known)]) if known else NOTHING
