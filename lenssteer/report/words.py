"""What the report calls things: methods, rates and settings in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any

from lenssteer.rows import Row

BASELINES = {"unsteered": "baseline", "random": "control"}

METHODS: dict[str, str] = {
    "unsteered": "The model as it is.",
    "selective": "Rotates activations by the given angle, in a plane that holds the direction from harmless to "
    "harmful requests. Made for discriminative sites: those where the two kinds of request lie on opposite sides.",
    "standard-angular": "Turns the part of every activation in such a plane to the given angle, whatever it was.",
    "adaptive-angular": "The same, but only where an activation points towards the harmful side.",
    "addition": "Adds a multiple of the mean difference between harmful and harmless requests.",
    "ablation": "Removes the part of every activation that lies along the direction.",
    "random": "The same kind of edit in a plane drawn at random, to see what disturbance alone does.",
}

RATES: dict[str, str] = {
    "Refused": "The answer is a refusal.",
    "On form": "The answer complies and is about what was asked.",
    "Exact": "The answer complies with exactly the right content.",
}

MODEL = {"n_layers": "Layers", "d_model": "Width", "n_ctx": "Longest text", "frame": "Weights"}

Record = Row | Mapping[str, Any]


def as_rows(records: Sequence[Record]) -> list[Row]:
    """Rows from rows or their dictionaries."""
    return [record if isinstance(record, Row) else Row.from_dict(record) for record in records]


def sites_label(sites: str) -> str:
    """
    >>> sites_label("all"), sites_label("layer 5"), sites_label("none")
    ('all sites', 'layer 5', '')
    """
    return "" if sites == "none" else f"{sites} sites" if sites in ("all", "discriminative") else sites


def setting_label(row: Row) -> str:
    """The angle or the coefficient of a row, "" where it has neither."""
    if row.degrees is not None:
        return f"{row.degrees:g}°"
    return "" if row.coefficient is None else f"× {row.coefficient:g}".replace("-", "−")


def label(row: Row, *, setting: bool = True) -> str:
    """A row in one line.

    >>> from lenssteer.rows import Rates
    >>> rates = Rates(0.0, 1.0, 1.0, 9)
    >>> label(Row("selective", "all", "test", rates, rates, degrees=90.0))
    'selective, all sites, 90°'
    """
    parts = [row.method, sites_label(row.sites), setting_label(row) if setting else ""]
    return ", ".join(part for part in parts if part)


def percent(share: float, digits: int = 1) -> str:
    """
    >>> percent(0.975), percent(1.0)
    ('97.5%', '100%')
    """
    return f"{100 * share:.{digits}f}".removesuffix(".0") + "%"


def steering(rows: Sequence[Row]) -> list[Row]:
    """The rows that are neither baseline nor control."""
    return [row for row in rows if row.method not in BASELINES]


def best_row(rows: Sequence[Row]) -> Row | None:
    """The steering row with most harmful requests answered on form; among equals, most harmless answers exact."""
    return max(steering(rows), key=lambda row: (row.harmful.on_form, row.harmless.exact), default=None)
