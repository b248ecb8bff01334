"""Artefacts of every format, frozen as lenssteer wrote them: they load for ever. Nothing here may be written again."""

import json
import math
from pathlib import Path

import pytest
import torch

from lenssteer.capture.store import ActivationStore
from lenssteer.cells import read_run
from lenssteer.errors import FileError, MismatchError
from lenssteer.evals.judges.llm_cache import Reply, ReplyCache
from lenssteer.models import ModelCard
from lenssteer.recipe import Calibration
from lenssteer.recipe.refusal import RefusalDirection
from lenssteer.report import read_document
from lenssteer.rows import Rates, Row, read_rows
from lenssteer.saes import load_sae
from lenssteer.site import Site
from lenssteer.steering import Steerer
from lenssteer.studies.auto.folder import read
from lenssteer.sweeps.search.result import read_result

FIXTURES = Path(__file__).parent / "fixtures"
CARD = ModelCard("tiny", "LlamaForCausalLM", "hf", 2, 8, 128, "raw", "0123456789abcdef")


def vector():
    """What every fixture was made of; torch draws it alike for ever."""
    return torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_steerers(version):
    """Oracle: h - (h.r) r, and h + 2.5 v, in NumPy's order of float64."""
    found = Steerer.load(FIXTURES / f"format_{version}/steerer")
    assert (str(found.where), found.card, found.provenance["method"]) == ("first_n(3)", CARD, "x")
    v, h = vector(), torch.arange(8, dtype=torch.float64).unsqueeze(0)
    unit = v / v.norm()
    ablated, added = found.edits[Site(0, "ln1_out")], found.edits[Site(1, "ln2_out")]
    torch.testing.assert_close(ablated(h), h - (h @ unit).unsqueeze(-1) * unit, rtol=0, atol=1e-12)
    torch.testing.assert_close(added(h), h + 2.5 * v, rtol=0, atol=1e-12)
    assert Steerer.load(FIXTURES / f"format_{version}/steerer_plain").card is None
    assert Steerer.load(FIXTURES / f"format_{version}/steerer_rows").edits[Site(0, "ln1_out")].rows == 3


@pytest.mark.parametrize("version", [2, 3])
def test_gates_schedules_and_latents(version):
    folder = FIXTURES / f"format_{version}"
    gated = Steerer.load(folder / "steerer_gated")
    assert str(gated.gate) == ("((cosine at ln1_out.0 of prompt mean > 0.25) and (not (projection at ln1_out.0 of prompt last < 0.1))) or "
                               "(projection at ln1_out.0 of prompt last < 0.1)")
    assert str(gated.schedule) == "linear(16)"
    shared = Steerer.load(folder / "steerer_shared")
    assert (shared.shared_from, shared.late_gate) == ("last_prompt", "closed")
    latent = Steerer.load(folder / "steerer_sae").edits[Site(1, "resid_post")]
    assert (latent.latents.tolist(), latent.sae.kind, latent.sae.k) == ([1, 3], "topk", 2)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_calibrations(version):
    found = Calibration.load(FIXTURES / f"format_{version}/calibration")
    assert [str(site) for site in found.sites] == ["ln1_out.0", "ln2_out.0", "ln1_out.1", "ln2_out.1"]
    assert (found.card, found.record["sha256"], found.rule) == (CARD, "ab" * 32, "unit_means")
    assert found.moments.positive.scatter is not None
    assert (found.samples is None) == (version == 1)
    table = json.loads((FIXTURES / f"format_{version}/calibration/calibration.json").read_text())["table"]
    for now, then in zip(found.table(), table, strict=True):
        assert now.keys() == then.keys()
        for name, value in then.items():
            assert now[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


@pytest.mark.parametrize("version", [2, 3])
def test_refusal_directions(version):
    found = RefusalDirection.load(FIXTURES / f"format_{version}/refusal")
    torch.testing.assert_close(found.direction.vector, vector() / vector().norm())
    assert (found.position, found.tokens, found.card) == (-1, (3, 4), CARD)
    assert math.isnan(found.table()[1]["bypass"])
    assert not math.isfinite(found.table()[1]["kl"])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_stores(version):
    found = ActivationStore.open(FIXTURES / f"format_{version}/store")
    lines = found.site(Site(1, "resid_post"))
    assert (found.count, lines.shape, len(found.sha256)) == (3, (3, 8), 2 if version == 3 else 0)
    first = ActivationStore.open(FIXTURES / "format_1/store").site(Site(1, "resid_post"))
    assert lines.isfinite().all()
    assert first.shape == lines.shape


@pytest.mark.parametrize("version", [1, 2])
def test_sweeps(version):
    header, cells = read_run(FIXTURES / f"format_{version}/sweep")
    assert (header["format"], [row.amount for row in cells]) == (version, [None, 0.0, 150.0])
    assert [row.mean("words") for row in cells] == [4.0, 4.0, 4.0]
    assert (cells[0].cost is None) == (version == 1)


@pytest.mark.parametrize("version", [1, 2])
def test_rows(version):
    rates = Rates(0.5, 0.25, 0.125, 8)
    assert read_rows(FIXTURES / f"format_{version}/rows.jsonl") == [
        Row("selective", "all", "test", rates, rates, degrees=200.0), Row("unsteered", "none", "test", rates, rates)]


def test_searches_and_automatic_runs():
    found = read_result(FIXTURES / "format_2/search")
    assert (found.name, found.amount, found.best.scored["on_form"]) == ("degrees", 290.0, 20)
    folder = FIXTURES / "format_2/auto"
    assert (read(folder / "auto.json")["concept"], read(folder / "card.json")["amount"]) == ("refusal", {"degrees": 290.0})
    assert len(read(folder / "tested.json")["steered"]["scores"]["positive"]["on_form"]) == 60


def test_replies_reports_and_autoencoders(tmp_path):
    (tmp_path / "replies.jsonl").write_bytes((FIXTURES / "format_2/replies/replies.jsonl").read_bytes())
    assert ReplyCache(tmp_path).get("bb" * 32) == Reply("", "length", 12, 3)
    assert read_document(FIXTURES / "format_2/document.json").parts[0].lines[0].cells["a"].n == 8
    assert load_sae(FIXTURES / "format_2/sae").d_sae == 5


@pytest.mark.parametrize("kind", ["steerer", "calibration", "refusal"])
def test_later_formats_and_foreign_keys_are_refused_with_their_name(tmp_path, kind):
    loader = {"steerer": Steerer, "calibration": Calibration, "refusal": RefusalDirection}[kind]
    for file in (FIXTURES / f"format_3/{kind}").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    meta = json.loads((tmp_path / f"{kind}.json").read_text())
    for changes, error, message in (({"format": 4}, MismatchError, "format version 4, this lenssteer reads 1, 2, 3"),
                                    ({"format": True}, MismatchError, "format version True"),
                                    ({"shadow": 1}, FileError, "shadow.*another version of lenssteer, or was edited"),
                                    ({"format": 2}, FileError, "from 3 on name their tensors"),
                                    ({"tensors": None}, FileError, "from 3 on name their tensors")):
        (tmp_path / f"{kind}.json").write_text(json.dumps(meta | changes))
        with pytest.raises(error, match=message):
            loader.load(tmp_path)
