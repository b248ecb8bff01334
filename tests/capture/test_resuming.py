"""A pass that is broken off and begun again: the same numbers bit by bit, and no prompt is read twice."""

import pytest
import torch

from lenssteer.artefacts import unfinished as pieces
from lenssteer.artefacts.unfinished import unfinished
from lenssteer.capture import capture_moments, capture_samples
from lenssteer.errors import FileError
from lenssteer.models import sizing
from lenssteer.models.lens import LensModel
from lenssteer.prompts import ContrastSet
from lenssteer.recipe import calibrate

SITES = "resid_post"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Many batches, merged often and written at once."""
    monkeypatch.setattr(sizing, "CPU_TOKENS", 256)
    monkeypatch.setattr("lenssteer.capture.capture.HELD_VALUES", 8 * 128 * 25)
    monkeypatch.setattr(pieces, "EVERY", 0.0)
    monkeypatch.setattr(pieces, "SHARE", 0.0)


@pytest.fixture(scope="module")
def contrast(demo_contrast):
    return ContrastSet(demo_contrast.positive[:40], demo_contrast.negative[:40], "some")


@pytest.fixture
def rows(monkeypatch):
    """How many prompts were run; a number in `stop` breaks off there, as ctrl-C does."""
    run = LensModel.run

    class Rows:
        count, stop = 0, 0

    def counting(self, ids, *args, **options):
        if Rows.stop and Rows.count + len(ids) > Rows.stop:
            raise KeyboardInterrupt
        Rows.count += len(ids)
        return run(self, ids, *args, **options)

    monkeypatch.setattr(LensModel, "run", counting)
    return Rows


def samples(model, contrast, kept):
    return capture_samples(model, contrast, model.sites(SITES), kept=kept)


def means(model, contrast, kept):
    return capture_moments(model, contrast, model.sites(SITES), kept=kept)


def scatters(model, contrast, kept):
    return capture_moments(model, contrast, model.sites(SITES), scatter=True, kept=kept)


def tensors(found):
    """Every tensor of a result."""
    return [part for value in vars(found).values() for part in ([value] if isinstance(value, torch.Tensor) else
            [value.mean, value.scatter, torch.tensor(value.n)] if hasattr(value, "mean") else []) if part is not None]


@pytest.mark.parametrize("read", [samples, means, scatters])
def test_broken_off_again_and_again_it_gives_the_same_bits(demo, contrast, tmp_path, rows, read):
    whole, count = tensors(read(demo, contrast, None)), rows.count
    assert count == 80
    for stop in (45, 30):
        rows.count, rows.stop = 0, stop
        with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "x", "trying", {}) as kept:
            read(demo, contrast, kept)
    rows.count, rows.stop = 0, 0
    with unfinished(tmp_path / "x", "trying", {}) as kept:
        found = tensors(read(demo, contrast, kept))
        assert len(found) == len(whole)
        assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=True))
        assert 0 < rows.count < 50
        rows.count = 0
        assert all(torch.equal(a, b) for a, b in zip(tensors(read(demo, contrast, kept)), whole, strict=True))
        assert rows.count == 0


def test_what_was_read_otherwise_is_read_again(demo, contrast, tmp_path, rows):
    with unfinished(tmp_path / "x", "trying", {}) as kept:
        samples(demo, contrast, kept)
        for other in ({"at": "offset(-2)"}, {"template": "User: {prompt}\nBot:"}):
            rows.count = 0
            capture_samples(demo, contrast, demo.sites(SITES), kept=kept, **other)
            assert rows.count == 80
        rows.count = 0
        capture_samples(demo, contrast, demo.sites("norm_out"), kept=kept)
        means(demo, contrast, kept)
        assert rows.count == 160


def test_a_calibration_keeps_what_it_read_until_it_is_written(demo, contrast, tmp_path, rows):
    rows.stop = 50
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "x", "trying", {}) as kept:
        calibrate(demo, contrast, sites=SITES, kept=kept)
    rows.count, rows.stop = 0, 0
    with unfinished(tmp_path / "x", "trying", {}) as kept:
        found = calibrate(demo, contrast, sites=SITES, kept=kept)
    assert rows.count < 60
    whole = calibrate(demo, contrast, sites=SITES)
    assert torch.equal(found.samples.positive, whole.samples.positive)
    assert torch.equal(found.direction.vector, whole.direction.vector)


def test_pieces_that_are_damaged_are_refused_with_what_to_do(demo, contrast, tmp_path):
    with unfinished(tmp_path / "x", "trying", {}) as kept:
        samples(demo, contrast, kept)
        path = next((tmp_path / "x").glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-4] + b"abcd")
        with pytest.raises(FileError, match="another hash"):
            samples(demo, contrast, kept)


