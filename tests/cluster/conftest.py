import json
from contextlib import ExitStack

import pytest

from lenssteer.models import Decoding
from lenssteer.sweeps import Grid

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="session")
def nodes():
    """A Ray cluster of two nodes with one core each, on loopback; nobody is connected."""
    from ray.cluster_utils import Cluster

    from lenssteer.cluster.connection import environment

    with ExitStack() as stack:
        stack.enter_context(environment(True))
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        stack.callback(cluster.shutdown)
        cluster.add_node(**NODE)
        yield cluster


@pytest.fixture(scope="module")
def pool(nodes):
    """One worker on each node."""
    from lenssteer.cluster import Pool

    with Pool(nodes.address, workers=2) as pool:
        yield pool


@pytest.fixture(scope="session")
def demo_spec():
    """The demo model, as a worker loads it."""
    from lenssteer.cluster import ModelSpec

    return ModelSpec("demo")


@pytest.fixture(scope="session")
def asked():
    """Prompts nothing was calibrated on."""
    from lenssteer.models.demo.world import requests

    return [prompt.text for kind in ("harmful", "harmless") for prompt in requests("selection", kind)[:3]]


@pytest.fixture(scope="session")
def grids():
    """Eleven cells of two methods and the unsteered one."""
    return [Grid("selective", tuple(range(0, 360, 36)), decoding=Decoding(6)), Grid("ablation", decoding=Decoding(6))]


@pytest.fixture(scope="session")
def timeless():
    """Rows of a run on disk by cell, but for how long they took."""
    def read(folder):
        rows = {}
        for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert row["cell"] not in rows
            row["cost"].pop("seconds")
            rows[row["cell"]] = row
        return rows

    return read


@pytest.fixture(scope="session")
def alone(demo, norm_out, asked, grids, timeless, tmp_path_factory):
    """The rows of one process, six cells a batch, with a score that needs the model."""
    from lenssteer.evals.scoring import measure_of, scorer_of
    from lenssteer.sweeps import run_sweep

    folder, names = tmp_path_factory.mktemp("alone"), ("refused", "nll", "words")
    run_sweep(demo, norm_out, grids, asked, folder, scorer_of(names, model=demo), measure=measure_of(names),
              scores=names, batch_size=36, keep_answers=True)
    return timeless(folder)
