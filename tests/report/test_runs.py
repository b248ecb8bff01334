"""A sweep's folder as a document: circles and charts, intervals, unscored and failed cells."""

import json

import pytest

from lenssteer.errors import FileError
from lenssteer.report.draw import figures
from lenssteer.report.runs import number, run_document
from lenssteer.rows import wilson_interval


def cell(method, amount, scores, *, name="degrees", source="resid_post.3", **more):
    key = "".join(one if one.isalnum() else "x" for one in f"{method}{amount}{source}")
    return {"cell": key, "method": method, "amount_name": name if amount is not None else "", "amount": amount,
            "source": source, "sites": ["ln1_out.1", "ln1_out.2", "ln1_out.3"], "where": "all", "settings": {"norm": "none"},
            "decoding": {"max_new_tokens": 8, "temperature": 0.0}, "n": 4, "scores": scores, **more}


def scores(*refused, nll=(1.0, 2.0, 3.0, 4.0)):
    return {"refused": list(refused), "nll": list(nll)}


@pytest.fixture
def folder(tmp_path):
    rows = [cell("unsteered", None, scores(1.0, 1.0, 1.0, 1.0)),
            cell("selective", 180.0, scores(0.0, 0.0, None, 1.0), cost={"tokens": 10.5, "passes": 2, "seconds": 0.25, "cells": 2}),
            cell("selective", 0.0, scores(1.0, 1.0, 1.0, 1.0), cost={"tokens": 10.5, "passes": 2, "seconds": 0.25, "cells": 2}),
            cell("addition", -1.0, scores(0.0, 0.0, 0.0, 0.0), name="coefficient"),
            cell("addition", 1e38, {}, name="coefficient", error="activations became non-finite")]
    header = {"kind": "sweep", "format": 1, "cells": [row["cell"] for row in rows] + ["onemore"], "n": 4,
              "measure": "refused: by phrase; nll: nats a token", "card": {"name": "demo", "architecture": "LlamaForCausalLM", "backend": "hf", "n_layers": 6, "d_model": 64, "n_ctx": 128}, "template": "chat"}
    (tmp_path / "sweep.json").write_text(json.dumps(header))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    return tmp_path


def test_angles_make_a_circle_and_other_amounts_a_chart(folder):
    found = run_document(folder)
    circle, curves, table = found.parts
    assert (circle.kind, curves.kind, table.kind) == ("circle", "curves", "table")
    assert [(one.name, one.degrees) for one in circle.series] == [("selective", [180.0, 0.0])]
    assert (curves.amount, curves.curves[0].amounts) == ("coefficient", [-1.0])
    assert circle.measures["refused"].unit == "share"
    assert circle.measures["nll"].unit == "number"
    assert circle.measures["refused"].meaning == "by phrase"
    assert circle.baseline["refused"].value == 1.0
    assert len(figures(circle)) == 2


def test_unscored_answers_are_counted_apart_and_failures_named(folder):
    table = run_document(folder).parts[-1]
    lines = {(line.label, line.cells["setting"]): line.cells for line in table.lines}
    refused = lines["selective", "degrees 180"]["refused"]
    assert (refused.value, refused.n, refused.unscored) == (pytest.approx(1 / 3), 3, 1)
    assert (refused.low, refused.high) == wilson_interval(1 / 3, 3)
    assert [cells["refused"] for (label, setting), cells in lines.items() if label == "addition" and setting != "coefficient −1"] == ["failed"]
    assert any("non-finite" in note for note in table.notes)
    assert lines["unsteered", ""]["refused"].value == 1.0


def test_what_is_missing_and_what_it_cost_is_told(folder):
    found = run_document(folder)
    assert found.lead.startswith("5 of 6 settings, each answered on 4 prompts by demo")
    assert "1 settings are still missing" in found.note
    assert (found.cost["tokens"], found.cost["passes"], found.cost["seconds"]) == (21.0, 4, 0.5)
    assert found.settings["decoding"] == "max_new_tokens 8, temperature 0.0"


def test_lines_are_told_apart_by_what_differs(folder):
    extra = cell("selective", 90.0, scores(0.0, 0.0, 0.0, 0.0), source="resid_post.5")
    rows = (folder / "rows.jsonl").read_text().removesuffix('{"torn')
    (folder / "rows.jsonl").write_text(rows + json.dumps(extra) + "\n")
    circle = run_document(folder).parts[0]
    assert [one.name for one in circle.series] == ["selective, resid_post.3", "selective, resid_post.5"]


def test_a_mean_has_a_bootstrap_interval_that_narrows_with_n():
    few, many = number([1.0, 2.0, 3.0, 4.0], "number"), number([1.0, 2.0, 3.0, 4.0] * 100, "number")
    assert few.value == many.value == 2.5
    assert many.high - many.low < (few.high - few.low) / 5
    # normal theory: 1.96 sd / sqrt(n), sd = sqrt(1.25)
    assert many.high - 2.5 == pytest.approx(1.96 * 1.25**0.5 / 20, rel=0.1)
    assert number([None, None], "share") == number([None, None], "number")
    assert number([None, None], "share").unscored == 2


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileError, match="holds no sweep"):
        run_document(tmp_path)
