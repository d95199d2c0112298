"""The whole GPU benchmark on a pretended GPU, with every TensorRT version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.gpu_measure import Subject, plans_to_measure
from bench.gpu_results import Row
from tests.fakes.fixtures import PretendGpu, pretend_gpu, trt_version  # noqa: F401 - fixtures
from tests.runs import start, tiny_cnn, write_data
from trt_mpq.engine.handover import read_network, read_searched
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import BuildStatus
from trt_mpq.types.observer import SilentObserver

QUICK = EngineOptions(warm_up_ms=1.0, rounds=2, round_ms=1.0, input_sets=2)
BOTH = (Precision.INT8, Precision.FP8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "resnet20"
    files = write_data(tmp_path_factory.mktemp("data"), tiny_cnn())
    start(files, folder, latency="modelled", precisions=("fp16", "int8", "fp8")).search()
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "resnet20")
    return tmp_path / "resnet20"


def measured(folder: Path, formats: tuple[Precision, ...] = (Precision.INT8,), batch: int = 2) -> Row:
    from trt_mpq.runtime.tensorrt.platform import this_platform

    return Subject(folder, this_platform(), QUICK, formats, SilentObserver()).measure(batch)


def test_every_plan_is_built_timed_and_inspected(pretend_gpu: PretendGpu, trt_version: str, folder: Path) -> None:  # noqa: F811
    pretend_gpu(trt_version)
    row = measured(folder)
    assert row.failure == ""
    assert {"fp32", "fp16", "int8", "searched", "lowered"} == {*row.engines, *row.same}
    for name, found in row.engines.items():
        assert found.status is BuildStatus.BUILT, found.reason
        assert found.typing == ("weak" if trt_version == "8.6" else "strong")
        assert found.profile is not None
        assert found.profile.batch == 2
        assert found.profile.layers == ()
        assert (found.ratio is None) == (name == "fp16")
        assert found.build_seconds > 0
        assert found.size_bytes > 0
        assert found.agreeing + len(found.disagreements) == found.groups == 4
    assert row.engines["fp32"].counts == {"fp32": 4}
    assert row.engines["int8"].counts == {"int8": 4}


def test_an_engine_that_cannot_be_built_leaves_the_others(pretend_gpu: PretendGpu, folder: Path) -> None:  # noqa: F811
    pretend_gpu("8.6")
    row = measured(folder, BOTH)
    failed = row.engines["fp8"]
    assert failed.status is BuildStatus.FAILED
    assert "fp8" in failed.reason
    assert failed.profile is None
    assert row.engines["int8"].profile is not None


def test_the_searched_plans_keep_the_target_and_one_format(folder: Path) -> None:
    searched = read_searched(folder)
    plans = plans_to_measure(read_network(folder).network(folder), searched, BOTH)
    assert list(plans)[:4] == ["fp32", "fp16", "int8", "fp8"]
    kept = {found.plan: found.latency_ms for found in searched.result.path if found.feasible}
    for precision, ending in ((Precision.INT8, ""), (Precision.FP8, "-fp8")):
        fastest, lowest = plans[f"searched{ending}"], plans[f"lowered{ending}"]
        rivals = [plan for plan in kept if set(plan.counts()) <= {Precision.FP32, Precision.FP16, precision}]
        assert {fastest, lowest} <= set(rivals)
        assert all(kept[fastest] <= kept[plan] for plan in rivals)
        assert all(lowest.counts().get(precision, 0) >= plan.counts().get(precision, 0) for plan in rivals)
