"""The tables of a report: the headline, and for every figure the same numbers as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from lenssteer.report.figures import series
from lenssteer.report.markup import Html, body_row, element, head_row, join, table
from lenssteer.report.words import BASELINES, best_row, label, percent, setting_label, sites_label
from lenssteer.rows import Rates, Row, wilson_interval

COLUMNS = (("harmful", "refusal"), ("harmful", "on_form"), ("harmful", "exact"),
           ("harmless", "refusal"), ("harmless", "exact"))


def headline_table(rows: Sequence[Row]) -> Html:
    """One line a row: shares with their 95% Wilson intervals, the best marked, baselines set apart."""
    best = best_row(rows)
    groups = [*(element("td") for _ in range(3)), element("th", "Harmful requests", colspan="3", scope="colgroup"),
              element("th", "Harmless requests", colspan="2", scope="colgroup")]
    names = head_row(["Method", "Sites", "Setting", "Refused", "On form", "Exact", "Refused", "Exact"])
    return table("Shares of answers, with 95% intervals", join([element("tr", *groups, class_="groups"), names]),
                 (_headline_row(row, row is best) for row in rows), kind="headline")


def _headline_row(row: Row, best: bool) -> Html:
    tag = "best" if best else BASELINES.get(row.method, "")
    below = label(row).removeprefix(row.method).removeprefix(", ")
    name = join([row.method, element("span", tag, class_="tag") if tag else "", element("span", below, class_="below")])
    shares = [_share(getattr(row, kind), rate) for kind, rate in COLUMNS]
    return body_row([name, sites_label(row.sites) or "–", setting_label(row) or "–", *shares],
                    "best" if best else "baseline" if tag else "")


def _share(rates: Rates, rate: str) -> Html:
    share = getattr(rates, rate)
    low, high = wilson_interval(share, rates.n)
    return join([element("span", percent(share), class_="share"), " ",
                 element("span", f"{100 * low:.0f}–{100 * high:.0f}", class_="interval")])


def circle_table(sweep: Sequence[Any]) -> Html:
    """Refused and on form at every angle."""
    found = series(sweep)
    angles = sorted({row.degrees for rows in found.values() for row in rows if row.degrees is not None})
    at = {name: {row.degrees: row for row in rows} for name, rows in found.items()}
    body = [body_row([f"{angle:g}°", *(_pair(at[name].get(angle)) for name in found)]) for angle in angles]
    return table("Harmful requests refused / answered on form", head_row(["Angle", *found]), body)


def _pair(row: Row | None) -> str:
    return "–" if row is None else f"{percent(row.harmful.refusal)} / {percent(row.harmful.on_form)}"


def layer_table(layers: Sequence[Mapping[str, Any]]) -> Html:
    """The projections at every site, and what the sites are."""
    head = head_row(["Site", "Harmful", "Harmless", "Mean cosine", "Length", "Effect size", "Kind"])
    return table("Mean projections at every site", head, (_layer_row(layer) for layer in layers))


def _layer_row(layer: Mapping[str, Any]) -> Html:
    kind = "degenerate" if layer["degenerate"] else "discriminative" if layer["discriminative"] else ""
    keys = ("positive", "negative", "mean_cosine", "length", "effect_size")
    return body_row([layer["site"], *(number(layer.get(key)) for key in keys), kind])


def receipt_table(receipts: Mapping[str, Mapping[str, Any]]) -> Html:
    """What every method did at every site."""
    keys = ("passes", "seen", "selected", "edited", "mean_displacement", "mean_degrees", "norm_ratio", "non_finite")
    head = head_row(["Method", "Tokens", "Site", "Passes", "Seen", "Selected", "Edited", "Mean displacement",
                     "Mean angle, °", "Norm ratio", "Non-finite"])
    body = [body_row([method, receipt.get("where", ""), site, *(number(did.get(key)) for key in keys)])
            for method, receipt in receipts.items() for site, did in receipt["sites"].items()]
    return table("What each edit did", head, body)


def number(value: Any) -> str:
    """Whole numbers in full, others with three decimals, "–" for nothing.

    >>> number(1234), number(-0.5), number(None)
    ('1,234', '−0.500', '–')
    """
    if value is None:
        return "–"
    return (f"{value:,}" if isinstance(value, int) else f"{value:,.3f}").replace("-", "−")
