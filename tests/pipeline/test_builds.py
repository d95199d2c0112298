"""Builds of plans in a run folder: what is built again, what is refused, and what a large network takes along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.gpu_engines import GpuEngines
from tests.fakes.fixtures import PretendGpu
from tests.runs import Recorder, start, tiny_cnn, write_data
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.model import model_digest
from trt_mpq.runtime import nvml
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import BuildStatus, Conditions

QUICK = {"rounds": 2, "round_ms": 1.0, "warm_up_ms": 0.0}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("calibrated")
    files = write_data(home, tiny_cnn())
    start(files, home / "run", batch=8, precisions="int8,fp8", device="l4", latency="modelled").report()
    return home / "run"


@pytest.fixture
def folder(calibrated: Path, tmp_path: Path) -> Path:
    """A run folder that was searched for INT8 and FP8, to work in."""
    return Path(shutil.copytree(calibrated, tmp_path / "run"))


def gpu(folder: Path, recorder: Recorder | None = None, **options: object) -> GpuEngines:
    asked = EngineOptions.model_validate({**QUICK, **options})
    return GpuEngines(folder, None, asked, recorder or Recorder(), refined=False)


def builds(folder: Path, precision: Precision = Precision.INT8, **options: object) -> list[str]:
    """Titles of the builds that a plan takes."""
    recorder = Recorder()
    shop = gpu(folder, recorder, **options)
    assert shop.build("one", shop.network.grouping.uniform(precision)).built
    return recorder.stages


def test_an_engine_is_built_once_however_it_is_timed_and_wherever_its_folder_moves(
    folder: Path, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu()
    assert builds(folder) == ["Building the one engine"]
    assert builds(folder, margin=0.5, rounds=9, cuda_graph=False, build_timeout_s=99.0) == []
    assert builds(folder, typing="strong", timing_cache=str(folder / "elsewhere")) == []
    monkeypatch.chdir(folder.parent)
    assert builds(Path("run")) == []
    moved = folder.rename(folder.with_name("moved"))
    assert builds(moved) == []
    assert builds(moved, tf32=True) == ["Building the one engine"]


def test_an_engine_that_lost_its_layers_is_built_again(folder: Path, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    builds(folder)
    (folder / "engine/builds/one.layers.json").unlink()
    assert builds(folder) == ["Building the one engine"]


def test_probing_and_deploying_share_the_fp16_engine(folder: Path, tmp_path: Path, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    recorder = Recorder()
    files = write_data(tmp_path, tiny_cnn())
    start(files, tmp_path / "measured", recorder, batch=8, engine=QUICK).report()
    assert recorder.stages.count("Building the fp16 engine") == 1
    assert recorder.stages.count("Timing engines in turns") == 2


@pytest.mark.parametrize(("sm", "status"), [(87, BuildStatus.FAILED), (89, BuildStatus.BUILT)])
def test_fp8_on_a_gpu_without_it_is_refused_before_tensorrt_is_asked(
    folder: Path, pretend_gpu: PretendGpu, sm: int, status: BuildStatus
) -> None:
    pretend_gpu("10.16", gpu="Orin", sm=sm)
    recorder = Recorder()
    shop = gpu(folder, recorder)
    build = shop.build("fp8", shop.network.grouping.uniform(Precision.FP8))
    assert build.status is status
    if not build.built:
        reason = "FP8 needs a GPU of compute capability 8.9 or later, Orin has 8.7: search without fp8"
        assert build.reason == reason
        assert recorder.events == [f"note no fp8 engine: {reason}"]


@pytest.mark.parametrize(("sm", "status"), [(75, BuildStatus.FAILED), (80, BuildStatus.BUILT)])
def test_bf16_on_a_gpu_without_it_is_refused_before_tensorrt_is_asked(
    folder: Path, pretend_gpu: PretendGpu, sm: int, status: BuildStatus
) -> None:
    pretend_gpu("10.16", gpu="Turing", sm=sm)
    shop = gpu(folder)
    plan = shop.network.grouping.uniform(Precision.FP16).replace({"first": Precision.BF16})
    build = shop.build("mixed", plan)
    assert build.status is status
    if not build.built:
        assert build.reason == (
            "BF16 needs a GPU of compute capability 8.0 or later, Turing has 7.5: search for a --device that has no "
            "BF16 either"
        )


def test_conditions_are_those_of_the_gpu_that_is_timed(
    folder: Path, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu()
    asked: list[str | None] = []

    @contextmanager
    def conditions(gpu: str | None = None) -> Iterator[Callable[[], Conditions]]:
        asked.append(gpu)
        yield Conditions

    monkeypatch.setattr(nvml, "conditions", conditions)
    shop = gpu(folder)
    shop.engines.time({"one": shop.build("one", shop.network.grouping.uniform(Precision.INT8))}, ["one"])
    (timed,) = asked  # one session of NVML for all turns
    assert timed
    assert timed.count(":") == 2, "the address of one on the bus"


class TestLargeNetwork:
    """Weights in a file of their own, as above 1.5 GB."""

    @pytest.fixture(autouse=True)
    def _large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trt_mpq.model._EXTERNAL_DATA_BYTES", 0)
        monkeypatch.setattr("trt_mpq.runtime.onnxruntime._PROTOBUF_LIMIT", 0)

    def test_other_weights_are_another_engine(self, folder: Path, pretend_gpu: PretendGpu) -> None:
        pretend_gpu()
        assert builds(folder, Precision.FP16) == ["Building the one engine"]
        assert builds(folder, Precision.FP16) == []
        model = onnx.load(folder / "model.onnx")
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * 2).tobytes()
        onnx.save(model, folder / "model.onnx")
        described = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        described["model"]["sha256"] = model_digest(folder / "model.onnx")
        (folder / "network.json").write_text(json.dumps(described), encoding="utf-8")
        assert builds(folder, Precision.FP16) == ["Building the one engine"]

    def test_weights_are_delivered_with_the_network(self, tmp_path: Path, pretend_gpu: PretendGpu) -> None:
        pretend_gpu()
        files = write_data(tmp_path, tiny_cnn())
        start(files, tmp_path / "run", batch=8, latency="modelled", device="l4", engine=QUICK).report()
        delivered = tmp_path / "run/engine"
        (data,) = delivered.glob("*.onnx.data")
        manifest = json.loads((delivered / "manifest.json").read_text())
        assert manifest["onnx_sha256"] == model_digest(delivered / "network.onnx")
        feeds = {"input": load_npz(tmp_path / "run/samples.npz")["input"]}
        assert OnnxRuntime(1).load(delivered / "network.onnx").run(feeds)["output"].shape[1] == 10
        assert data.name.removesuffix(".onnx.data") in {"plan", "fp16", "int8", "fp8", "candidate-2", "candidate-3"}

    def test_weights_of_an_earlier_larger_plan_go(
        self, folder: Path, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pretend_gpu()
        builds(folder)
        assert (folder / "engine/builds/one.onnx.data").exists()
        monkeypatch.setattr("trt_mpq.model._EXTERNAL_DATA_BYTES", 1 << 30)
        builds(folder, Precision.FP16)
        assert not (folder / "engine/builds/one.onnx.data").exists()
