"""How nodes are divided into workers, and what is refused before anything is started."""

import sys
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("ray", reason="needs lenssteer[ray]")

from lenssteer.cluster import Pool
from lenssteer.cluster.connection import staff
from lenssteer.cluster.task import require_same_versions, require_same_weights
from lenssteer.cluster.worker import Worker
from lenssteer.errors import LenssteerError, MismatchError, ParameterError

NODES = st.lists(st.integers(1, 64), min_size=1, max_size=6)


@given(NODES, st.integers(1, 40))
def test_each_worker_gets_the_most_cores_with_which_all_fit(nodes, workers):
    assume(workers <= sum(nodes))
    found = staff([(cores, 0) for cores in nodes], workers)
    assert found.workers == workers
    assert sum(cores // found.cpus for cores in nodes) >= workers
    assert sum(cores // (found.cpus + 1) for cores in nodes) < workers


@given(NODES)
def test_by_default_there_is_one_a_core_and_at_most_eight_a_node(nodes):
    assert staff([(cores, 0) for cores in nodes]).workers == sum(min(cores, 8) for cores in nodes)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=5), st.sampled_from([0.5, 1, 2]))
def test_with_gpus_there_is_one_a_share(nodes, share):
    wanted = sum(min(cores, int(gpus / share)) for cores, gpus in nodes)
    assert staff(nodes, gpus=float(share)).workers == max(1, wanted)


def test_more_workers_than_cores_take_one_each():
    assert staff([(2, 0)], 5).cpus == 1


@pytest.mark.parametrize("options", [{"workers": 0}, {"gpus_per_worker": -1}, {"gpus_per_worker": 1.5}])
def test_impossible_numbers_are_refused_before_a_connection(options):
    with pytest.raises(ParameterError, match="at least one worker"):
        Pool("127.0.0.1:1", **options)


def test_an_address_of_rays_client_is_refused():
    with pytest.raises(ParameterError, match=r"10\.0\.0\.1:6379"), Pool("ray://10.0.0.1:10001"):
        pass


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LenssteerError, match=r"pip install 'lenssteer\[ray\]'"), Pool():
        pass


def test_a_worker_with_other_versions_is_refused_by_name():
    started = Worker(1).start()
    require_same_versions(started)
    other = replace(started, versions={**started.versions, "torch": "1.0"})
    with pytest.raises(MismatchError, match=r"worker on .* torch is 1\.0 there"):
        require_same_versions(other)


def test_a_worker_with_other_weights_is_refused(demo):
    require_same_weights(demo.card, replace(demo.card))
    with pytest.raises(MismatchError, match="not the same model on every worker"):
        require_same_weights(demo.card, replace(demo.card, fingerprint="0" * 16))
