"""Workers, nodes and drivers that die, and what is left."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

pytest.importorskip("ray", reason="needs lenssteer[ray]")

from lenssteer.cells import read_cells
from lenssteer.cluster import Pool, SweepJob, cluster_sweep
from lenssteer.cluster.task import Task
from lenssteer.errors import LenssteerError
from lenssteer.evals.judges import PhraseJudge
from tests.cluster.conftest import NODE
from tests.cluster.works import Deadly, where_and_what

SCORES = ("refused", "nll", "words")


class Saboteur(PhraseJudge):
    """Judges by phrase, and does something before its first verdict."""

    def __init__(self, deed):
        super().__init__()
        self.deed = deed

    def judge(self, prompts, answers):
        if self.deed is not None:
            self.deed()
            self.deed = None
        return super().judge(prompts, answers)


def test_a_lost_node_costs_nothing_but_time(nodes, demo_spec, norm_out, asked, grids, alone, timeless, tmp_path):
    extra = nodes.add_node(**NODE)
    with Pool(nodes.address, workers=3) as pool:
        list(pool.run([Task(demo_spec, where_and_what) for _ in range(3)]))
        judge = Saboteur(lambda: nodes.remove_node(extra, allow_graceful=False))
        cluster_sweep(pool, [SweepJob(demo_spec, norm_out, grids, tmp_path / "run")], asked, SCORES, judge=judge,
                      batch_size=6, keep_answers=True)
        assert pool.deaths >= 1
    found = timeless(tmp_path / "run")
    assert found.keys() == alone.keys()
    for key, row in found.items():
        assert (row["scores"], row["answers"]) == (alone[key]["scores"], alone[key]["answers"])


def test_a_cell_that_kills_its_workers_is_its_own_error(nodes, demo_spec, norm_out, asked, grids, alone, timeless,
                                                        tmp_path):
    deadly = Deadly("selective", grids[0].amounts, decoding=grids[0].decoding)
    with Pool(nodes.address, workers=1) as pool:
        job = SweepJob(demo_spec, norm_out, [deadly], tmp_path / "run")
        [rows] = cluster_sweep(pool, [job], asked, SCORES, batch_size=12, keep_answers=True)
        assert pool.deaths == 3
        broken = [row for row in rows if row.error]
        assert [row.amount for row in broken] == [deadly.deadly]
        assert broken[0].error.startswith("its worker died, 3 times in all")
        for row in rows:
            if not row.error:
                assert (row.scores, row.answers) == (alone[row.cell]["scores"], alone[row.cell]["answers"])
        before = timeless(tmp_path / "run")
        cluster_sweep(pool, [job], asked, SCORES, batch_size=12, keep_answers=True)
        assert timeless(tmp_path / "run") == before


def test_what_the_cluster_cannot_start_is_an_error_in_time(nodes, demo_spec):
    with Pool(nodes.address, gpus_per_worker=1, patience=0.5) as pool, pytest.raises(
            LenssteerError, match="each takes 1 cores and 1 GPUs"):
        pool.one(Task(demo_spec, where_and_what))


def test_a_driver_that_dies_goes_on_where_it_was(nodes, norm_out, asked, tmp_path):
    norm_out.save(tmp_path / "calibration")
    (tmp_path / "prompts.txt").write_text("\n".join(asked))
    folder = tmp_path / "run"
    given = ["sweep", "demo", "--steer", str(tmp_path / "calibration"), "--grid", "degrees=0:360:5",
             "--prompts", str(tmp_path / "prompts.txt"), "--scores", "refused,nll", "--max-new-tokens", "16",
             "--batch-size", "6", "-o", str(folder), "--ray", nodes.address, "--workers", "1", "--json"]
    said = dies_after_two_rows(given, folder, signal.SIGINT, 130)
    assert "the same command goes on from there" in json.loads(said)["error"]["message"]
    kept = read_cells(folder)
    dies_after_two_rows(given, folder, signal.SIGKILL, -signal.SIGKILL)
    more = read_cells(folder)
    assert more[: len(kept)] == kept
    assert len(kept) + 2 <= len(more) < 73
    done = CliRunner().invoke(sweep_command(), given[1:])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["finished"], told["cells"]) == (73, 73)
    rows = read_cells(folder)
    assert rows[: len(more)] == more
    assert len({row.cell for row in rows}) == len(rows) == 73


def dies_after_two_rows(given, folder, deadly, code):
    """What a command said that was sent a signal when it had written two rows."""
    before = len(read_cells(folder)) if folder.exists() else 0
    with subprocess.Popen([sys.executable, "-m", "lenssteer", *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while not folder.exists() or len(read_cells(folder)) < before + 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no rows in two minutes"
            time.sleep(0.02)
        process.send_signal(deadly)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == code
    return said


def sweep_command():
    import typer

    from lenssteer.cli.sweep import sweep

    app = typer.Typer()
    app.command()(sweep)
    return app
