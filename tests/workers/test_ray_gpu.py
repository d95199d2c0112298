"""A run on a machine without a GPU has its engines built and timed on a GPU of a local Ray cluster, a pretended one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.install import fake_packages
from tests.fakes.packages.trt_fake.behaviour import Behaviour
from tests.runs import QUICK as SHORT
from tests.runs import Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.errors import RuntimeFailure
from trt_mpq.pipeline.devices import DevicesRun
from trt_mpq.pipeline.remote import RemoteResult, RemoteTask
from trt_mpq.pipeline.run import opened_for_ranking
from trt_mpq.pipeline.workers import RunLocation
from trt_mpq.report.data import report_from_json
from trt_mpq.settings import settings_from
from trt_mpq.types.engine import Platform
from trt_mpq.workers import gpu_worker_pool
from trt_mpq.workers.pool import WorkerPool
from trt_mpq.workers.ray import RayCluster

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.filterwarnings("default"),  # ray's own
]

QUICK = {"rounds": 4, "round_ms": 2.0, "warm_up_ms": 1.0, "cuda_graph": False}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two CPUs on a node without a GPU."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def gpu_node(cluster: Any, tmp_path: Path) -> Iterator[str]:
    """The cluster's address while it has a node with a pretended H200."""
    fakes = fake_packages(tmp_path / "fakes", "10.16", Behaviour())
    path = os.pathsep.join(filter(None, [str(fakes), os.environ.get("PYTHONPATH")]))
    node = cluster.add_node(
        num_cpus=0, num_gpus=1, object_store_memory=80_000_000, resources={"accelerator_type:H200": 1},
        env_vars={"PYTHONPATH": path},
    )  # fmt: skip
    yield cluster.address
    cluster.remove_node(node)


def tasks_in(folder: Path, **settings: object) -> Callable[[], Callable[[RemoteTask], RemoteResult]]:
    given = settings_from({"model": folder / "net.onnx", **settings}, "test")
    return RunLocation(given, folder.resolve(), opened_for_ranking).run


def test_a_cluster_without_a_gpu_is_said_beside_what_is_missing_here(cluster: Any, tmp_path: Path) -> None:
    files = {**write_data(tmp_path, tiny_cnn()), "device": slow_device(tmp_path / "slow.toml")}
    report = start(files, tmp_path / "run", ray=cluster.address, search="uniform").report()
    assert report.device is None
    assert any(f"and on the cluster: the Ray cluster at {cluster.address} has no GPU" in s for s in report.not_done)


def test_engines_are_built_and_timed_on_the_clusters_gpu(gpu_node: str, tmp_path: Path) -> None:
    files = {**write_data(tmp_path, tiny_cnn()), "device": slow_device(tmp_path / "slow.toml")}
    settings = {"ray": gpu_node, "engine": QUICK, "batch": 8, "target_accuracy": 0.95}
    observer = Recorder()
    report = start(files, tmp_path / "run", observer, **settings).report()
    assert report.device is not None
    assert report.device.platform.gpu == "Fake H200"
    assert report.latency_ms.source == "device-table"
    assert report.device.decision.shipped == "plan"
    assert report.device.score is not None, "the node reads the evaluation data at the same path"
    assert report.not_done == ()
    assert (tmp_path / "run/engine/engine.plan").is_file()
    assert [stage for stage in observer.stages if "cluster" in stage] == [
        f"On a GPU of the cluster: {task.value}" for task in RemoteTask
    ]
    again = Recorder()
    assert start(files, tmp_path / "run", again, **settings).report().device == report.device
    assert again.stages == ["On a GPU of the cluster: see what the GPU is"]


def test_notes_of_the_other_machine_reach_the_user(gpu_node: str, tmp_path: Path) -> None:
    files = write_data(tmp_path, tiny_cnn())
    observer = Recorder()
    run = start(files, tmp_path / "run", observer, ray=gpu_node, engine=QUICK, latency="modelled", search="uniform")
    run.emit()
    Path(files["eval"]).unlink()
    run = tasks_in(tmp_path / "run", **files, engine=QUICK)
    pool = gpu_worker_pool(gpu_node, "h200")
    returned = next(pool.map(run, [RemoteTask.SHIP]))
    pool.close()
    assert len(returned.notes) == 1
    assert "the task score is not measured through the engine" in returned.notes[0]


def test_a_gpu_is_had_while_all_cpus_are_taken(gpu_node: str, tmp_path: Path) -> None:
    from tests.workers.work import Diary

    cpus = WorkerPool(RayCluster(gpu_node, 1))
    assert list(cpus.map(Diary(tmp_path), [1, 2])) == [1, 4]  # they stay for more
    pool = gpu_worker_pool(gpu_node, "h200")
    assert isinstance(next(pool.map(tasks_in(tmp_path / "run"), [RemoteTask.PLATFORM])).value, Platform)
    pool.close()
    cpus.close()


def test_of_several_kinds_of_gpu_the_device_is_taken(gpu_node: str, cluster: Any, tmp_path: Path) -> None:
    other = cluster.add_node(
        num_cpus=0, num_gpus=1, object_store_memory=80_000_000, resources={"accelerator_type:L4": 1},
    )  # fmt: skip
    run = tasks_in(tmp_path / "run")
    try:
        pool = gpu_worker_pool(gpu_node, "h200")
        assert isinstance(next(pool.map(run, [RemoteTask.PLATFORM])).value, Platform)
        pool.close()
        with pytest.raises(RuntimeFailure, match=r"GPUs of several kinds \(H200, L4\) and none is called thor: choose"):
            next(gpu_worker_pool(gpu_node, "thor").map(run, [RemoteTask.PLATFORM]))
    finally:
        cluster.remove_node(other)


def test_engines_for_several_devices_are_built_side_by_side_each_on_a_gpu_of_its_kind(
    gpu_node: str, cluster: Any, tmp_path: Path
) -> None:
    fakes = fake_packages(tmp_path / "other", "10.16", Behaviour(gpu="Fake L4"))
    path = os.pathsep.join(filter(None, [str(fakes), os.environ.get("PYTHONPATH")]))
    other = cluster.add_node(
        num_cpus=0, num_gpus=1, object_store_memory=80_000_000, resources={"accelerator_type:L4": 1},
        env_vars={"PYTHONPATH": path},
    )  # fmt: skip
    settings = {"ray": gpu_node, "engine": QUICK, "batch": 8, "search": "uniform", "device": "h200,l4"}
    asked = settings_from({**write_data(tmp_path, tiny_cnn()), **SHORT, **settings}, "test")
    observer = Recorder()
    try:
        DevicesRun(asked, tmp_path / "run", observer, "trt-mpq build").report()
    finally:
        cluster.remove_node(other)
    ship = f"On a GPU of the cluster: {RemoteTask.SHIP.value}"
    happened = [event.partition(" ")[0] for event in observer.events if event.endswith(ship)]
    assert happened == ["begin", "begin", "end", "end"], "one errand for each GPU, at the same time"
    for name, gpu in (("h200", "Fake H200"), ("l4", "Fake L4")):
        report = report_from_json((tmp_path / "run" / name / "report.json").read_text())
        assert report.device is not None
        assert report.device.platform.gpu == gpu
        assert (tmp_path / "run" / name / "engine" / "engine.plan").is_file()
