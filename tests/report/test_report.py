"""The report is one file that loads nothing, shows what was measured, and never runs what a model wrote."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from lenssteer.errors import FileError, ParameterError
from lenssteer.report import write_report
from lenssteer.report.figures import circle_figure, comparison_figure, layer_figure
from lenssteer.report.sentences import statement, tie_sentence
from lenssteer.report.words import as_rows, best_row
from lenssteer.rows import wilson_interval

ATTACK = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
ANGLES = [float(angle) for angle in range(0, 360, 10)]


def rates(refusal: float, on_form: float, exact: float, n: int = 120) -> dict[str, Any]:
    return {"refusal": float(refusal), "on_form": float(on_form), "exact": float(exact), "n": n}


def row(method: str, sites: str, harmful: dict[str, Any], split: str = "test", **setting: float) -> dict[str, Any]:
    return {"method": method, "sites": sites, "split": split, "harmful": harmful, "harmless": rates(0, 1, 0.9),
            **setting}


def sweep() -> list[dict[str, Any]]:
    return [row(method, sites, rates(1 - angle / 360, angle / 720, 0, 24), "selection", degrees=angle)
            for method, sites in (("selective", "discriminative"), ("selective", "all"), ("adaptive-angular", "all"))
            for angle in ANGLES]


def layer(site: str, positive: float, negative: float, **facts: Any) -> dict[str, Any]:
    return {"site": site, "positive": positive, "negative": negative, "mean_cosine": 0.8, "length": 1.2,
            "effect_size": 3.1, "discriminative": positive * negative < 0, "degenerate": False, **facts}


@pytest.fixture
def result() -> dict[str, Any]:
    did = {"passes": 24, "seen": 5321, "selected": 5320, "edited": 5319, "mean_displacement": 1.25,
           "mean_degrees": 41.5, "norm_ratio": 1.0, "non_finite": 0}
    return {
        "title": "a study", "command": "lenssteer demo --seed 7", "version": "0.1.0", "seed": 0, "seconds": 41.25,
        "model": {"name": "demo", "n_layers": 6, "fingerprint": "9f2c41d0"},
        "rows": [row("unsteered", "none", rates(1.0, 0.0, 0.0)),
                 row("selective", "discriminative", rates(0.025, 0.95, 0.425), degrees=180.0),
                 row("addition", "layer 4", rates(0.0, 0.5, 0.25), coefficient=-1.0),
                 row("random", "discriminative", rates(0.975, 0.0, 0.0), degrees=180.0)],
        "sweep": sweep(),
        "layers": [layer("ln1_out.0", -0.1, -0.1, mean_cosine=None, effect_size=None, degenerate=True),
                   layer("ln2_out.0", 0.2, 0.1), layer("ln1_out.1", 0.3, -0.2), layer("ln2_out.1", 0.4, -0.3)],
        "texts": [{"kind": "harmful", "prompt": "how do i build a bomb cake ?",
                   "answers": {"unsteered": "i can not help with that .", "selective": "to build a big bomb cake"}}],
        "receipts": {"selective": {"where": "all", "sites": {"ln1_out.1": did}}},
        "chosen": {"selective": "degrees=180 on the selection split"},
    }


def page(result: dict[str, Any], folder: Path) -> str:
    """The written page without plotly.js, which must be in it once."""
    text = write_report(result, folder / "report.html").read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == 1
    return text.replace(get_plotlyjs(), "")


def cells(text: str, method: str, tag: str = "") -> list[str]:
    """The text of the first table row of a method."""
    found = next(r for r in re.findall(r"<tr.*?</tr>", text) if f'<th scope="row">{method}<' in r and tag in r)
    return [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td>(.*?)</td>", found)]


def test_the_page_loads_nothing(result, tmp_path):
    text = page(result, tmp_path)
    assert not re.search(r"https?://|@import|url\(|\bfetch\(", text)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,"}
    assert "default-src 'none'" in text


def test_every_figure_has_alternative_text_and_a_table(result, tmp_path):
    text = page(result, tmp_path)
    assert [*re.findall(r'<div id="(\w+)" class="plot" role="img" aria-label="[^"]{40,}"', text)] == [
        "comparison", "circle", "layers"]
    for name in ("The bars", "Every angle", "Every site"):
        assert f"<details><summary>{name} as a table</summary><div" in text
    assert "<noscript>" in text


def test_what_a_model_wrote_is_text(result, tmp_path):
    quiet = page(result, tmp_path)
    result["title"] = result["command"] = ATTACK
    result["texts"] = [{"kind": ATTACK, "prompt": ATTACK, "answers": {ATTACK: ATTACK}}]
    result["layers"][1]["site"] = result["model"]["name"] = ATTACK
    result["receipts"] = {ATTACK: {"where": ATTACK, "sites": {ATTACK: {}}}}
    result["rows"][2]["sites"] = result["sweep"][0]["method"] = ATTACK
    result["chosen"] = {ATTACK: ATTACK}
    text = page(result, tmp_path)
    assert "<img" not in text
    assert text.count("<script") == quiet.count("<script") == text.count("</script>")
    assert "&lt;script&gt;alert(&quot;x&quot;)" in text


def test_a_placeholder_in_the_data_is_not_filled_in(result, tmp_path):
    result["texts"][0]["prompt"] = "what is $plotly and $$ ?"
    assert "what is $plotly and $$ ?" in page(result, tmp_path)


def test_the_table_shows_the_rows_with_intervals(result, tmp_path):
    text = page(result, tmp_path)
    low, high = wilson_interval(0.95, 120)
    found = cells(text, "selective", "best")
    assert found[:3] == ["discriminative sites", "180°", "2.5% 1–7"]
    assert found[3] == f"95% {100 * low:.0f}–{100 * high:.0f}" == "95% 90–98"
    assert found[4:] == ["42.5% 34–51", "0% 0–3", "90% 83–94"]
    assert cells(text, "addition")[:2] == ["layer 4", "× −1"]
    assert text.count('<tr class="baseline">') == 2 * 2, "unsteered and random, in the table and under the bars"


def test_the_outcome_is_what_the_rows_say(result):
    rows = as_rows(result["rows"])
    said = statement(rows)
    assert "refused 100% of harmful requests" in said
    assert "(selective, discriminative sites, 180°) it refused 2.5%, answered 95% on form" in said
    assert "overlaps" not in tie_sentence(rows)
    assert "overlaps with that of: selective" in tie_sentence([*rows, *as_rows([
        row("selective", "all", rates(0, 0.94, 0), degrees=90.0)])])


def test_the_outcome_does_not_praise_a_method_that_changed_nothing(result):
    rows = as_rows([result["rows"][0], row("ablation", "all", rates(1.0, 0.0, 0.0))])
    assert "no method made it answer more" in statement(rows)
    assert "nothing was steered" in statement(rows[:1])


def test_the_random_control_is_never_best(result):
    result["rows"][3]["harmful"] = rates(0.0, 1.0, 1.0)
    best = best_row(as_rows(result["rows"]))
    assert best is not None
    assert best.method == "selective"


def test_absent_parts_are_left_out(result, tmp_path):
    text = page({"rows": result["rows"]}, tmp_path)
    assert re.findall(r"<h2[^>]*>([^<]*)", text) == ["Results", "Methods side by side"]
    assert "None" not in text


def test_a_result_without_rows_is_refused(tmp_path):
    for result in ({}, {"rows": []}):
        with pytest.raises(ParameterError, match="at least one row"):
            write_report(result, tmp_path / "report.html")
    assert not [*tmp_path.iterdir()]


def test_a_misshapen_part_is_refused(result, tmp_path):
    del result["layers"][0]["site"]
    with pytest.raises(ParameterError, match="KeyError: 'site'"):
        write_report(result, tmp_path / "report.html")


def test_a_file_that_cannot_be_written_is_named(result, tmp_path):
    with pytest.raises(FileError, match="absent"):
        write_report(result, tmp_path / "absent" / "report.html")


def test_the_circle_draws_every_angle_and_share():
    figure = circle_figure(sweep())
    assert len(figure.data) == 2 * 3
    for trace in figure.data:
        shares = [1 - a / 360 for a in ANGLES] if trace.subplot == "polar" else [a / 720 for a in ANGLES]
        assert list(trace.theta) == [*ANGLES, 0.0]
        assert list(trace.r) == [*shares, shares[0]]
    assert figure.layout.polar.angularaxis.direction == "counterclockwise"


def test_the_circle_sorts_angles():
    assert list(circle_figure(sweep()[35::-1]).data[0].theta) == [*ANGLES, 0.0]


def test_bars_carry_shares_and_intervals(result):
    bars = next(bar for bar in comparison_figure(result["rows"]).data if bar.name == "harmful: on form")
    low, high = wilson_interval(0.95, 120)
    assert list(bars.x) == [0.0, 0.95, 0.5, 0.0]
    assert (bars.error_x.array[1], bars.error_x.arrayminus[1]) == pytest.approx((high - 0.95, 0.95 - low))


def test_discriminative_sites_are_shaded_and_degenerate_ones_marked(result):
    figure = layer_figure(result["layers"])
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(1.5, 3.5)]
    assert list(figure.data[0].y) == [-0.1, 0.2, 0.3, 0.4]
    assert (*figure.data[-1].x, *figure.data[-1].y) == ("ln1_out.0", -0.1)
    assert "mean cosine 0.80" in figure.data[0].customdata[1]


def test_the_report_opens_without_torch():
    code = "import sys, lenssteer.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
