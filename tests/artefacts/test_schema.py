"""Schemas: published as they are, of the same fields as what they describe, and refusing everything else."""

import contextlib
import json
import typing
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenssteer.artefacts.schema import cells, record, replies, rows, search, steerer
from lenssteer.artefacts.schema.published import PUBLISHED, publish, schema_of
from lenssteer.artefacts.schema.record import described
from lenssteer.cells import CellRow
from lenssteer.edits.edit import Norm, Radius
from lenssteer.edits.encoded import SAE_OPTIONS
from lenssteer.errors import FileError
from lenssteer.evals.judges.llm_cache import Reply
from lenssteer.models import ModelCard
from lenssteer.models.cost import Cost
from lenssteer.rows import Rates, Row
from lenssteer.site import STREAMS
from lenssteer.steering.gates import Condition
from lenssteer.steering.schedule import Schedule
from lenssteer.sweeps.search.result import Finalist, SearchResult

DOCS = Path(__file__).parents[2] / "docs" / "schemas"
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("resid_post.3"),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schemas_are_current(name):
    """Written by `python -m lenssteer.artefacts.schema.published docs/schemas`."""
    assert (DOCS / f"{name}.schema.json").read_text(encoding="utf-8") == schema_of(name)


def test_publishing_writes_all_of_them_and_no_others(tmp_path):
    assert {path.name for path in publish(tmp_path)} == {path.name for path in DOCS.iterdir()}


@pytest.mark.parametrize(("schema", "described"), [
    (record.Card, ModelCard), (cells.Cell, CellRow), (rows.Row, Row), (rows.Rates, Rates), (replies.Reply, Reply), (search.Finalist, Finalist),
    (search.Result, SearchResult), (search.Cost, Cost), (steerer.Schedule, Schedule), (steerer.Condition, Condition)])
def test_schemas_have_the_fields_of_what_they_describe(schema, described):
    """A field that one of them gained must come to the other."""
    extra = {replies.Reply: {"key"}, search.Result: {"share"}}.get(schema, set())
    absent = {"vector"} if described is Condition else set()
    assert set(schema.model_fields) - extra == {field.name for field in fields(described)} - absent


def test_choices_are_those_of_edits_and_sites():
    assert typing.get_args(steerer.LowRank.model_fields["norm"].annotation) == typing.get_args(Norm)
    assert typing.get_args(steerer.LowRank.model_fields["radius"].annotation) == typing.get_args(Radius)
    assert set(steerer.SaeOptions.model_fields) == set(SAE_OPTIONS)
    pattern = typing.get_args(record.SiteName)[1].metadata[0].pattern if hasattr(typing.get_args(record.SiteName)[1], "metadata") else ""
    assert pattern.startswith("^[a-z0-9_]")
    assert all(stream == stream.lower() and len(stream) <= 32 for stream in STREAMS)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PUBLISHED)), st.data())
def test_any_object_is_accepted_or_refused_by_a_file_error(name, data):
    schema = PUBLISHED[name]
    keys = st.sampled_from([*(field.alias or key for key, field in schema.model_fields.items()), "other"])
    content = data.draw(st.dictionaries(keys, VALUES, max_size=len(schema.model_fields)) | VALUES)
    with contextlib.suppress(FileError):
        assert described(schema, json.dumps(content).encode(), "x").model_dump()


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"reply"}))
def test_foreign_keys_are_refused_by_name(name):
    with pytest.raises(FileError, match="damaged"):
        described(PUBLISHED[name], b'{"shadow": 1}', "x")
    assert json.loads(schema_of(name))["additionalProperties"] is False


@pytest.mark.parametrize("line", [
    {"kind": "kl", "rows": [[None, 0, 1.0]]}, {"kind": "answers", "rows": [[1.0, 0, 2.0]]}, {"kind": "first", "rows": [[1.0, 0, {}]]},
    {"kind": "broken", "rows": [[1.0, 0, 3.0]]}, {"kind": "answers", "rows": [[1.0, -1, {}]]}, {"kind": "other", "rows": []},
    {"kind": "first", "rows": [[1.0, 0]]}, {"kind": "first", "rows": [["1", 0, 1.0]]}])
def test_batches_of_a_search_hold_what_their_kind_says(line):
    cost = {"prompt": 1, "generated": 0.5, "passes": 1, "seconds": 0.1}
    with pytest.raises(FileError, match="damaged"):
        described(search.Batch, json.dumps({"stage": "s", "cost": cost} | line).encode(), "x")


@pytest.mark.parametrize("rule", [3, -1, True, {"and": []}, {"not": [0, 0]}, {"xor": [0]}, {"and": [0], "or": [0]}, {"or": [{"and": [9]}]}, "0", None])
def test_rules_of_gates_name_conditions_that_are_there(rule):
    condition = {"site": "resid_pre.0", "threshold": 0, "similarity": "cosine", "above": True, "pool": "mean", "scope": "prompt"}
    with pytest.raises(FileError, match="damaged"):
        described(steerer.Gate, json.dumps({"conditions": [condition], "rule": rule}).encode(), "x")
