"""The shelf: what is served is read and tried first, and a request can name nothing else."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lenssteer import edits
from lenssteer.engines.vllm import shelf as module
from lenssteer.engines.vllm.shelf import Shelf
from lenssteer.errors import FileError, LenssteerError, ParameterError
from lenssteer.models import ModelCard
from lenssteer.recipe import Calibration
from lenssteer.site import Site
from lenssteer.steering import Condition, Steerer

SITE = Site(2, "resid_post")


@pytest.fixture
def addition():
    vector = torch.zeros(16, dtype=torch.float64)
    vector[3] = 2.0
    return Steerer({SITE: edits.add(vector, 1.0)}, card=ModelCard("m", "LlamaForCausalLM", "hf", 4, 16, 64))


@pytest.fixture
def folder(tmp_path, addition):
    addition.save(tmp_path / "shelf" / "brief")
    return tmp_path / "shelf"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    from lenssteer.models import load_model
    from lenssteer.recipe import calibrate
    from lenssteer.studies.demo import demo_contrast

    found = calibrate(load_model("demo", backend="hf", check=False), demo_contrast(), sites="norm_out")
    return replace(found, samples=None).save(tmp_path_factory.mktemp("calibration") / "refusal")


def serve(folder, **content):
    (folder / "serve.json").write_text(json.dumps(content))


def test_a_saved_steerer_is_served_with_a_strength(folder, addition):
    shelf = Shelf.open(folder)
    half = shelf.steerer(shelf.read({"steerer": "brief", "strength": 0.5}))
    h = torch.randn(5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = np.zeros(16)
    moved[3] = 1.0
    np.testing.assert_allclose((half.edits[SITE](h) - h).numpy(), np.tile(moved, (5, 1)), atol=1e-12)
    assert shelf.read({"steerer": "brief"}).parameters == (("strength", 1.0),)
    assert shelf.sites() == (SITE,)
    assert shelf.offers["brief"].where == "all"


def test_a_calibration_is_served_as_selective_with_degrees(tmp_path, calibration):
    shutil.copytree(calibration, tmp_path / "refusal")
    shelf = Shelf.open(tmp_path)
    steerer = shelf.steerer(shelf.read({"steerer": "refusal", "degrees": 200}))
    expected = Calibration.load(calibration).steerer("selective", degrees=200)
    assert steerer.sites == expected.sites == shelf.sites()
    for site, edit in expected.edits.items():
        for part, tensor in edit.tensors().items():
            assert torch.equal(steerer.edits[site].tensors()[part], tensor)


def test_serve_json_fixes_method_settings_sites_where_and_schedule(tmp_path, calibration):
    shutil.copytree(calibration, tmp_path / "add")
    serve(tmp_path / "add", method="addition", settings={"norm": "preserve"}, sites=["ln1_out.3", "ln2_out.4"],
          where="generated", schedule="linear(8)", ranges={"coefficient": {"low": -2, "high": 2, "default": -1}})
    shelf = Shelf.open(tmp_path)
    steerer = shelf.steerer(shelf.read({"steerer": "add"}))
    assert [str(site) for site in steerer.sites] == ["ln1_out.3", "ln2_out.4"]
    assert (str(steerer.where), str(steerer.schedule)) == ("generated", "linear(8)")
    assert {edit.norm for edit in steerer.edits.values()} == {"preserve"}
    assert shelf.offers["add"].where == "generated"


def test_sites_of_conditions_count(tmp_path, addition):
    addition.when(Condition(Site(1, "ln1_out"), torch.ones(16), 0.0)).save(tmp_path / "gated")
    assert Shelf.open(tmp_path).sites() == (Site(1, "ln1_out"), SITE)


@pytest.mark.parametrize(("content", "said"), [
    ({"method": "addition"}, "sets method, which is for calibrations"),
    ({"ranges": {"degrees": {"low": 0, "high": 1}}}, "only strength can be set"),
    ({"ranges": {"strength": {"low": 0}}}, "ranges.strength.high"),
    ({"were": "prompt"}, "were"),
    ({"where": "promt"}, "Did you mean 'prompt'?"),
])
def test_a_wrong_serve_json_is_refused_when_the_shelf_is_opened(folder, content, said):
    serve(folder / "brief", **content)
    with pytest.raises(FileError, match="brief") as caught:
        Shelf.open(folder)
    assert said in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [
    ({"method": "selectve"}, "Did you mean 'selective'?"),
    ({}, "needs degrees="),
    ({"ranges": {"degree": {"low": 0, "high": 1}}}, "Did you mean 'degrees'?"),
    ({"settings": {"degrees": 1}, "ranges": {"degrees": {"low": 0, "high": 1}}}, "fixed in settings"),
    ({"method": "sttp"}, "samples"),
    ({"sites": ["resid_post.1"], "settings": {"degrees": 1}}, "resid_post.1"),
])
def test_a_calibration_that_cannot_give_its_method_is_refused(tmp_path, calibration, content, said):
    shutil.copytree(calibration, tmp_path / "refusal")
    serve(tmp_path / "refusal", **content)
    with pytest.raises(FileError, match="refusal cannot be served") as caught:
        Shelf.open(tmp_path)
    assert said in str(caught.value)


def test_folders_that_are_no_shelf_are_refused(tmp_path, folder):
    with pytest.raises(FileError, match="is not a folder"):
        Shelf.open(tmp_path / "nowhere")
    with pytest.raises(FileError, match="is itself a saved artefact"):
        Shelf.open(folder / "brief")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="is empty"):
        Shelf.open(tmp_path / "empty")
    (folder / "notes").mkdir()
    with pytest.raises(FileError, match=r"notes holds no steerer\.json"):
        Shelf.open(folder)


@pytest.mark.parametrize("name", ["none", "with space", "dots..", "ü", "x" * 65, "-x"])
def test_names_that_requests_could_not_write_are_refused(folder, name):
    (folder / "brief").rename(folder / name)
    with pytest.raises(FileError, match="rename the folder"):
        Shelf.open(folder)


def test_hidden_folders_and_files_are_left_alone(folder):
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("mine")
    assert list(Shelf.open(folder).offers) == ["brief"]


@pytest.mark.parametrize("harm", ["cut", "absent", "changed"])
def test_damaged_tensors_are_refused_when_the_shelf_is_opened(folder, harm):
    (path,) = (folder / "brief").glob("*.safetensors")
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    elif harm == "absent":
        path.unlink()
    else:
        tensors = load_file(path)
        name = next(name for name in tensors if name.endswith("write"))
        tensors[name] = tensors[name] * torch.nan
        save_file(tensors, path)
    with pytest.raises(FileError, match="brief"):
        Shelf.open(folder)


def test_stacked_edits_are_refused(tmp_path):
    vector = torch.ones(16, dtype=torch.float64)
    Steerer({SITE: edits.add(vector, torch.tensor([0.0, 1.0]))}).save(tmp_path / "rows")
    with pytest.raises(FileError, match="row by row"):
        Shelf.open(tmp_path)


def test_the_model_is_compared_with_what_entries_were_made_for(folder, addition):
    shelf = Shelf.open(folder)
    shelf.check(addition.card)
    for other, said in ((replace(addition.card, d_model=32), "d_model 16"), (replace(addition.card, n_layers=5), "n_layers"),
                        (replace(addition.card, frame="folded"), "frame")):
        with pytest.raises(FileError, match="brief cannot be served") as caught:
            shelf.check(other)
        assert said in str(caught.value)


def test_a_steerer_for_any_model_is_compared_by_width_and_depth(tmp_path, addition):
    replace(addition, card=None).save(tmp_path / "any")
    shelf = Shelf.open(tmp_path)
    shelf.check(addition.card)
    for other in (replace(addition.card, d_model=32), replace(addition.card, n_layers=2)):
        with pytest.raises(FileError, match="acts up to resid_post"):
            shelf.check(other)


@pytest.mark.parametrize("name", ["../outside", "/etc", "brief/../../outside", ".", "", "brief\x00", "later/x"])
@pytest.mark.parametrize("grows", [False, True])
def test_a_request_reaches_nothing_but_names_of_the_shelf(folder, addition, name, grows):
    addition.save(folder.parent / "outside")
    with pytest.raises(ParameterError, match="unknown steerer"):
        Shelf.open(folder, grows=grows).read({"steerer": name})


def test_only_a_growing_shelf_finds_what_came_later(folder, addition):
    fixed, growing = Shelf.open(folder), Shelf.open(folder, grows=True)
    addition.save(folder / "later")
    with pytest.raises(ParameterError, match="unknown steerer"):
        fixed.read({"steerer": "later"})
    assert growing.steerer(growing.read({"steerer": "later"})).sites == (SITE,)


def test_the_digest_is_of_what_is_stored(folder, addition):
    before = Shelf.open(folder).offers["brief"].digest
    shutil.copytree(folder / "brief", folder / "twin")
    assert {offer.digest for offer in Shelf.open(folder).offers.values()} == {before}
    serve(folder / "twin", where="prompt")
    addition.scaled(0.5).save(folder / "half")
    assert len({offer.digest for offer in Shelf.open(folder).offers.values()}) == 3


def test_an_edit_asked_for_on_another_shelf_is_refused(folder, addition):
    asked = Shelf.open(folder).read({"steerer": "brief"})
    addition.scaled(0.5).save(folder / "brief")
    with pytest.raises(ParameterError, match="no longer holds 'brief'"):
        Shelf.open(folder).steerer(asked)


def test_built_steerers_are_kept_up_to_a_number(folder, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    shelf = Shelf.open(folder)
    asked = [shelf.read({"steerer": "brief", "strength": s}) for s in (0.1, 0.2, 0.3)]
    first, second, _ = (shelf.steerer(one) for one in asked)
    assert shelf.steerer(asked[1]) is second
    assert shelf.steerer(asked[0]) is not first


def test_values_beyond_float32_are_refused(folder):
    serve(folder / "brief", ranges={"strength": {"low": 0, "high": 1e300, "default": 1}})
    shelf = Shelf.open(folder)
    with pytest.raises(LenssteerError, match="not finite"):
        shelf.steerer(shelf.read({"steerer": "brief", "strength": 1e300}))
    serve(folder / "brief", ranges={"strength": {"low": 0, "high": 1e300, "default": 1e300}})
    with pytest.raises(FileError, match="not finite"):
        Shelf.open(folder)


def test_every_refusal_is_ours(folder):
    (folder / "brief" / "steerer.json").write_text('{"kind": "steerer", "format": 2, "sites": 7}')
    with pytest.raises(LenssteerError):
        Shelf.open(folder)
