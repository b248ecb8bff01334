"""What a cluster gives is what one process gives."""

import json
import os

import pytest
import torch

pytest.importorskip("ray", reason="needs lenssteer[ray]")

from lenssteer.capture import ActivationStore, ReadAt, capture_moments, capture_samples
from lenssteer.cluster import (
    ModelSpec,
    SweepJob,
    cluster_activations,
    cluster_calibrate,
    cluster_capability,
    cluster_moments,
    cluster_samples,
    cluster_sweep,
    remote_models,
)
from lenssteer.cluster.task import Task
from lenssteer.errors import LenssteerError, ModelError, ParameterError, SiteError
from lenssteer.evals.benchmarks import measure_capability
from lenssteer.prompts import PromptWarning
from lenssteer.recipe import calibrate
from tests.cluster import works
from tests.evals.benchmarks.files import write_data

SIDES = ("positive", "negative", "positive_unit", "negative_unit")


@pytest.fixture(scope="module")
def remote(pool, demo_spec):
    [model] = remote_models(pool, [demo_spec])
    return model


def same_moments(ours, theirs):
    for side in SIDES:
        a, b = getattr(ours, side), getattr(theirs, side)
        assert a.n == b.n
        assert torch.equal(a.mean, b.mean)
        assert (a.scatter is None) == (b.scatter is None)
        assert a.scatter is None or torch.equal(a.scatter, b.scatter)


def test_a_calibration_is_that_of_one_process_bit_for_bit(pool, demo_spec, demo_contrast, norm_out, tmp_path):
    [found] = cluster_calibrate(pool, [demo_spec], demo_contrast, sites="norm_out")
    same_moments(found.moments, norm_out.moments)
    assert torch.equal(found.samples.positive, norm_out.samples.positive)
    assert torch.equal(found.plane.basis, norm_out.plane.basis)
    assert found.card == norm_out.card
    for one, name in ((found, "ours"), (norm_out, "theirs")):
        one.save(tmp_path / name)
    ours, theirs = (json.loads((tmp_path / name / "calibration.json").read_text()) for name in ("ours", "theirs"))
    for meta in (ours, theirs):
        meta["record"].pop("seconds")
    assert ours == theirs


def test_samples_and_moments_of_the_same_batches_are_the_same_bit_for_bit(pool, remote, demo, demo_contrast,
                                                                          monkeypatch):
    from lenssteer.capture import capture

    sites, at = demo.sites("resid_post"), ReadAt.parse("mean(prompt)")
    monkeypatch.setattr(capture, "HELD_VALUES", 30_000)
    monkeypatch.setattr("lenssteer.cluster.capturing.HELD_VALUES", 30_000)
    theirs = capture_moments(demo, demo_contrast, sites, at, scatter=True, batch_tokens=200)
    ours = cluster_moments(pool, remote, demo_contrast, sites, at, scatter=True, batch_tokens=200)
    same_moments(ours, theirs)
    read = cluster_samples(pool, remote, demo_contrast, sites, at)
    assert torch.equal(read.positive, capture_samples(demo, demo_contrast, sites, at).positive)


def test_other_batches_change_rounding_only(pool, demo_spec, demo_contrast, norm_out):
    [found] = cluster_calibrate(pool, [demo_spec], demo_contrast, sites="norm_out", batch_tokens=200)
    scale = norm_out.samples.positive.abs().max()
    assert (found.samples.positive - norm_out.samples.positive).abs().max() < 1e-6 * scale
    assert found.discriminative == norm_out.discriminative


def test_activations_can_be_stored(pool, remote, demo, demo_contrast, tmp_path):
    sites, at = demo.sites("resid_post")[:2], ReadAt.parse("last")
    encoded = demo.encode(demo_contrast.positive)
    store = ActivationStore.write(tmp_path / "store", sites, cluster_activations(pool, remote, encoded, sites, at,
                                                                                 batch_tokens=300))
    expected = capture_samples(demo, demo_contrast, sites, at).positive
    for k, site in enumerate(sites):
        torch.testing.assert_close(store.site(site), expected[k], rtol=0, atol=1e-5)


def test_several_models_share_a_pool(pool, demo_spec, demo_contrast):
    from lenssteer.models import load_model

    specs = [demo_spec, ModelSpec("demo-chat")]
    found = cluster_calibrate(pool, specs, demo_contrast, sites="resid_post")
    assert [one.card.name for one in found] == ["demo", "demo-chat"]
    same_moments(found[1].moments, calibrate(load_model("demo-chat", backend="hf"), demo_contrast,
                                             sites="resid_post").moments)


def test_rows_are_those_of_one_process_but_for_seconds(pool, demo_spec, norm_out, asked, grids, alone, timeless,
                                                       tmp_path):
    job = SweepJob(demo_spec, norm_out, grids, tmp_path / "run")
    rows = cluster_sweep(pool, [job], asked, ("refused", "nll", "words"), batch_size=36, keep_answers=True)
    assert timeless(tmp_path / "run") == alone
    assert [row.cell for row in rows[0]] == json.loads((tmp_path / "run" / "sweep.json").read_text())["cells"]


def test_without_a_batch_size_answers_and_scores_are_the_same(pool, demo_spec, norm_out, asked, grids, alone, timeless,
                                                              tmp_path):
    jobs = [SweepJob(demo_spec, norm_out, [grid], tmp_path / grid.method) for grid in grids]
    cluster_sweep(pool, jobs, asked, ("refused", "nll", "words"), keep_answers=True)
    found = timeless(tmp_path / "selective") | timeless(tmp_path / "ablation")
    assert found.keys() == alone.keys()
    assert len({row["batch"] for row in found.values()}) >= 2 * 2
    for key, row in found.items():
        assert (row["scores"], row["answers"]) == (alone[key]["scores"], alone[key]["answers"])


def test_benchmark_items_have_the_scores_of_one_process(pool, demo, demo_spec, norm_out, tmp_path):
    pytest.importorskip("lm_eval", reason="needs lenssteer[eval]")
    steerer = norm_out.steerer("selective", degrees=200.0)
    names, options = ["mmlu_sample", "truthfulqa_mc2"], {"data": write_data(tmp_path / "data"), "batch_size": 8}
    theirs = measure_capability(demo, names, steerer, **options)
    ours = cluster_capability(pool, demo_spec, names, steerer, **options)
    for name in ("rows", "items", "tokens", "model"):
        assert ours[name] == theirs[name], name
    assert len(ours["receipts"]) == len(theirs["receipts"])
    for a, b in zip(ours["receipts"], theirs["receipts"], strict=True):
        assert a["sites"].keys() == b["sites"].keys()
        for site, told in b["sites"].items():
            assert a["sites"][site] == pytest.approx(told, rel=1e-9)


def test_workers_divide_the_cores_and_load_a_model_once(pool, demo_spec):
    found = [value for _, value in pool.run([Task(demo_spec, works.where_and_what) for _ in range(8)])]
    processes = {pid for pid, _, _ in found}
    assert os.getpid() not in processes
    assert {threads for _, threads, _ in found} == {1}
    assert len({(pid, model) for pid, _, model in found}) == len(processes) <= 2


def test_errors_and_warnings_of_workers_arrive_as_they_are(pool, demo_spec):
    with pytest.raises(SiteError, match=r"^no such site: resid_poost\.3\.$"):
        pool.one(Task(demo_spec, works.misspelt))
    with pytest.raises(LenssteerError, match=r"(?s)a worker on .* failed:.*KeyError: 'absent'"):
        pool.one(Task(demo_spec, works.broken))
    with pytest.warns(PromptWarning, match="these prompts flatter"):
        assert pool.one(Task(demo_spec, works.doubtful)) == 1
    with pytest.raises(ModelError, match="cannot load 'no-such-model'"):
        remote_models(pool, [ModelSpec("no-such-model")])


def test_what_needs_weights_is_refused_by_the_driver(remote):
    with pytest.raises(ModelError, match="weights of demo are on the workers"):
        remote.attach(remote.sites("resid_post")[0], lambda h, columns: None)


def test_sweeps_need_folders_of_their_own(pool, demo_spec, norm_out, grids, asked, tmp_path):
    job = SweepJob(demo_spec, norm_out, grids, tmp_path)
    for jobs in ([], [job, job]):
        with pytest.raises(ParameterError, match="a folder of its own"):
            cluster_sweep(pool, jobs, asked, ("words",))
