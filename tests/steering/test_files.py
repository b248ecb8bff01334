"""Folders of artefacts: what is written, what is left of what was there before, and what is refused in which words."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lenssteer import edits
from lenssteer.errors import FileError, MismatchError, ParameterError
from lenssteer.models import ModelCard
from lenssteer.site import Site
from lenssteer.steering import Steerer, files
from lenssteer.steering.files import elsewhere, read_artefact, reading

SITE = Site(3, "resid_post")


def steerer(coefficient: float = 1.0, **provenance) -> Steerer:
    return Steerer({SITE: edits.add(torch.arange(4.0), coefficient)}, provenance=provenance)


def tensor_files(folder) -> set[str]:
    return {path.name for path in folder.glob("*.safetensors")}


def test_the_description_is_a_text_to_read(tmp_path):
    folder = steerer(note="naïve").save(str(tmp_path / "deep" / "s"))
    text = (folder / "steerer.json").read_text(encoding="utf-8")
    meta = json.loads(text)
    assert folder == tmp_path / "deep" / "s"
    assert (meta["kind"], meta["format"], meta["provenance"]) == ("steerer", 3, {"note": "naïve"})
    assert {meta["tensors"]["file"]} == tensor_files(folder)
    assert text.startswith('{\n  "kind": "steerer",\n')
    assert text.endswith("}\n")
    assert "naïve" in text
    read, tensors = read_artefact(str(folder), "steerer")
    assert read == meta
    assert set(tensors) == set(meta["sites"]["resid_post.3"]["arrays"].values())


def test_tensors_go_with_the_last_description_that_names_them(tmp_path):
    folder = steerer().save(tmp_path / "s")
    (first,) = tensor_files(folder)
    steerer().save(folder)
    assert tensor_files(folder) == {first}, "written again, they stay"
    shutil.copy(folder / "steerer.json", folder / "another.json")
    steerer(2.0).save(folder)
    (second,) = tensor_files(folder) - {first}
    (folder / "another.json").write_text("{")
    steerer(3.0).save(folder)
    assert first in tensor_files(folder), "nothing is known of what nobody names any longer"
    assert second not in tensor_files(folder)
    assert torch.equal(Steerer.load(folder).edits[SITE].offset, torch.tensor([3.0]))


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_json_does_not_hold_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(FileError, match=r"cannot write .*s/steerer\.json: .*must be JSON"):
        steerer(note=value).save(tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("version", "shown"), [(0, "0"), (4, "4"), (True, "True"), ("3", "3"), (None, "None"), ("x" * 40, "x" * 20 + ",")])
def test_other_formats_are_refused_by_their_number(tmp_path, version, shown):
    folder = steerer().save(tmp_path / "s")
    meta = json.loads((folder / "steerer.json").read_text())
    (folder / "steerer.json").write_text(json.dumps(meta | {"format": version}))
    with pytest.raises(MismatchError, match=rf"has format version {shown}.*this lenssteer reads 1, 2, 3; use the version"):
        Steerer.load(folder)


def test_what_is_missing_is_named(tmp_path):
    folder = steerer().save(tmp_path / "s")
    (name,) = tensor_files(folder)
    (folder / name).unlink()
    with pytest.raises(FileError, match=f"s is not a saved steerer: {name} is missing"):
        Steerer.load(folder)
    (folder / "steerer.json").unlink()
    with pytest.raises(FileError, match=r"s is not a saved steerer: steerer\.json is missing\.$"):
        Steerer.load(folder)
    (folder / "steerer.json").mkdir()
    with pytest.raises(FileError, match=r"no regular file|is damaged"):
        Steerer.load(folder)
    other = steerer().save(tmp_path / "kinds")
    with pytest.raises(FileError, match=r"kinds is not a saved calibration: calibration\.json is missing"):
        read_artefact(other, "calibration")
    (other / "calibration.json").write_text((other / "steerer.json").read_text())
    with pytest.raises(FileError, match=r"calibration\.json does not describe a calibration"):
        read_artefact(other, "calibration")


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    card = ModelCard("one", "Llama", "hf", 0, 4, 64)
    with pytest.raises(FileError, match=r"what is to be written to .*s/steerer\.json.*n_layers"):
        Steerer({SITE: edits.add(torch.arange(4.0))}, card=card).save(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_folder_that_is_written_anew_meanwhile_is_read_again(tmp_path, monkeypatch):
    folder, read = steerer().save(tmp_path / "s"), files.read_tensors
    calls = []

    def late(path, *rest, **named):
        calls.append(path.name)
        if len(calls) == 1:
            steerer(5.0).save(folder)
        return read(path, *rest, **named)

    monkeypatch.setattr(files, "read_tensors", late)
    assert Steerer.load(folder).edits[SITE].offset.tolist() == [5]
    assert len(set(calls)) == 2


def test_where_an_artefact_may_be_instead(tmp_path):
    steerer().save(tmp_path / "run" / "steerer")
    inside = str(tmp_path / "run" / "steerer")
    assert elsewhere(tmp_path / "run", "calibration", "steerer") == f" Did you mean {inside!r}?"
    assert elsewhere(tmp_path / "run", "calibration") == ""
    assert elsewhere(tmp_path / "rum", "steerer") == " Did you mean 'run'?"
    assert elsewhere(tmp_path / "far" / "away", "steerer") == ""
    assert elsewhere(tmp_path / "run" / "steerer", "calibration") == "", "a folder that is there is the one that was meant"
    with pytest.raises(FileError, match=r"missing\. Did you mean 'run'"):
        Steerer.load(tmp_path / "rum")


@pytest.mark.parametrize("kind", [KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError, RuntimeError])
def test_what_a_malformed_description_causes_is_a_file_error(kind):
    with pytest.raises(FileError, match=f"^here is damaged: {kind.__name__} .*z{{250}}") as told, reading("here"):
        raise kind("z" * 400)
    assert str(told.value).count("z") == (299 if kind is KeyError else 300)
    assert isinstance(told.value.__cause__, kind)


def test_errors_of_our_own_and_of_the_system_pass():
    for error in (ParameterError("mine"), OSError("theirs")):
        with pytest.raises(type(error)) as told, reading("here"):
            raise error
        assert told.value is error


@pytest.mark.parametrize("version", [1, 2])
def test_older_formats_name_no_tensors_and_have_no_hash(version):
    folder = Path(__file__).parents[1] / f"artefacts/fixtures/format_{version}/steerer_plain"
    meta, tensors = read_artefact(folder, "steerer")
    assert meta["format"] == version
    assert "tensors" not in meta
    assert {key for site in meta["sites"].values() for key in site["arrays"].values()} == set(tensors)


def test_tensors_with_another_hash_than_was_recorded_are_refused(tmp_path):
    folder = steerer().save(tmp_path / "s")
    (name,) = tensor_files(folder)
    content = bytearray((folder / name).read_bytes())
    content[-4] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(FileError, match="another hash"):
        Steerer.load(folder)


def test_a_key_that_stands_twice_is_refused_since_format_3(tmp_path):
    folder = steerer().save(tmp_path / "s")
    text = (folder / "steerer.json").read_text()
    (folder / "steerer.json").write_text(text.replace('"where": "all"', '"where": "prompt", "where": "all"'))
    with pytest.raises(FileError, match=r"steerer\.json.*where"):
        Steerer.load(folder)


def test_faults_are_told_with_the_file_they_are_in(tmp_path, monkeypatch):
    folder = steerer().save(tmp_path / "s")
    meta = json.loads((folder / "steerer.json").read_text())
    (folder / "steerer.json").write_text(json.dumps(meta | {"sites": None}))
    with pytest.raises(FileError, match=r"s/steerer\.json"):
        Steerer.load(folder)
    (folder / "steerer.json").write_text(json.dumps(meta))
    for name in ("read_tensors", "read_object"):
        with monkeypatch.context() as patch:
            patch.setattr(files, name, lambda *_, **__: (_ for _ in ()).throw(PermissionError("not for you")))
            with pytest.raises(FileError, match="s is damaged: not for you") as told:
                read_artefact(folder, "steerer")
            assert isinstance(told.value.__cause__, PermissionError)


def test_tensors_outside_of_the_folder_are_not_read(tmp_path):
    folder, other = steerer().save(tmp_path / "s"), steerer().save(tmp_path / "other")
    (name,) = tensor_files(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(other / name)
    with pytest.raises(FileError, match="leads out of"):
        Steerer.load(folder)
    (folder / "steerer.json").unlink()
    (folder / "steerer.json").symlink_to(other / "steerer.json")
    with pytest.raises(FileError, match=r"steerer\.json leads out of"):
        Steerer.load(folder)
