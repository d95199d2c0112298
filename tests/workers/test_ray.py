"""Actors of a local Ray cluster do as one process does; without ray or a cluster there is a sentence."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs import start, tiny_cnn, write_data
from tests.workers.test_runs import outcome
from tests.workers.work import Diary, soon
from trt_mpq.errors import MissingDependencyError, RuntimeFailure
from trt_mpq.workers.pool import WorkerPool
from trt_mpq.workers.ray import RayCluster, connected

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # ray's own


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"ray is not installed and --ray needs it: run `pip install 'ray"):
        connected("auto")


@needs_ray
def test_a_cluster_that_is_not_there_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(RuntimeFailure, match=f"there is no Ray cluster at {address}: start one with `ray start"):
            connected(address)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def test_results_come_in_order_and_a_killed_actor_loses_nothing(address: str, tmp_path: Path) -> None:
    pool = WorkerPool(RayCluster(address, 1))
    assert pool.count == 2, "all CPUs of the cluster"
    diary = Diary(tmp_path)
    assert list(pool.map(diary, [3, ("die", 1), 1, 2])) == [9, "survived", 1, 4]
    assert os.getpid() not in diary.processes()
    for process in diary.processes():
        if Path(f"/proc/{process}").exists():
            os.kill(process, signal.SIGKILL)
    assert list(pool.map(diary, [5, 6])) == [25, 36]
    with pytest.raises(MissingDependencyError, match="ether is not installed"):
        list(pool.map(diary, [("refuse", "ether")]))
    pool.close()


def test_actors_start_in_the_background_and_are_set_up(address: str, tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    pool = WorkerPool(RayCluster(address, 2, diary))
    pool.start()
    assert soon(lambda: diary.noted() == ["opened"] * 2)
    assert list(pool.map(diary, [2, 3, 4, 5], prefetch=1)) == [4, 9, 16, 25]
    assert len(diary.processes()) == 2
    pool.close()


def test_a_run_on_ray_decides_what_one_process_does(address: str, tmp_path: Path) -> None:
    files = write_data(tmp_path, tiny_cnn(), evaluation=1000)
    settings = {"precisions": "int8,int4", "target_accuracy": 0.9, "sensitivity": "noise,dependency"}
    for folder, more in (("alone", {}), ("ray", {"ray": address})):
        run = start(files, tmp_path / folder, **settings, **more)
        run.sensitivities()
        run.emit()
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "alone")
