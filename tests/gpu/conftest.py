"""Networks to build engines of, and the GPU to do it on: `pytest -m gpu` ends at once where there is none."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.gpu_engines import GpuEngines
from tests.networks import residual_cnn
from tests.runs import start, write_data
from trt_mpq.engine.handover import SEARCHED, CalibratedNetwork, read_network, read_searched
from trt_mpq.errors import TrtMpqError
from trt_mpq.settings import EngineOptions
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.engine import Platform

ROOT = Path(__file__).resolve().parents[2]
PREPARED = (ROOT / "prepared", ROOT / "bench" / "cache" / "gpu" / "prepared")
"""Where `python -m bench.gpu prepare` may have written: beside the tests in a bundle, or its default."""
QUICK = EngineOptions(warm_up_ms=20.0, rounds=4, round_ms=10.0, optimization_level=2)


@dataclass(frozen=True)
class Subject:
    """A run folder whose search is done, on this machine."""

    folder: Path
    described: CalibratedNetwork
    platform: Platform

    def gpu(self, batch: int = 4, options: EngineOptions = QUICK) -> GpuEngines:
        return GpuEngines(self.folder, batch, options)

    @property
    def searched(self) -> PrecisionPlan:
        return read_searched(self.folder).result.chosen.plan


@pytest.fixture(scope="session")
def platform() -> Platform:
    """This machine; the whole suite ends in one sentence if it has no GPU or no TensorRT."""
    from trt_mpq.runtime.tensorrt.platform import this_platform

    try:
        return this_platform()
    except TrtMpqError as error:
        pytest.exit(f"pytest -m gpu: {error}", returncode=2)


@pytest.fixture(scope="session")
def small_folder(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = write_data(tmp_path_factory.mktemp("small-data"), residual_cnn())
    folder = tmp_path_factory.mktemp("small") / "run"
    start(files, folder, latency="modelled").search()
    return folder


@pytest.fixture(scope="session")
def resnet20_folder() -> Path:
    for prepared in PREPARED:
        if (prepared / "resnet20" / SEARCHED.written[0]).is_file():
            return prepared / "resnet20"
    pytest.skip("ResNet-20 is not prepared: run `python -m bench.gpu prepare`")


@pytest.fixture(params=["small", "resnet20"])
def subject(request: pytest.FixtureRequest, platform: Platform, tmp_path: Path) -> Subject:
    """A copy without engines, so that tests do not share any."""
    source: Path = request.getfixturevalue(f"{request.param}_folder")
    shutil.copytree(source, tmp_path / "run", ignore=shutil.ignore_patterns("engine"))
    return Subject(tmp_path / "run", read_network(tmp_path / "run"), platform)


@pytest.fixture(params=["strong", "weak"])
def options(request: pytest.FixtureRequest, platform: Platform) -> EngineOptions:
    """Quick builds, typed in each way that this TensorRT knows."""
    from trt_mpq.runtime.tensorrt.api import capabilities

    found = capabilities()
    known = {"strong": found.strong_typing, "weak": found.weak_typing}
    if not known[request.param]:
        pytest.skip(f"TensorRT {found.version} has no {request.param} typing")
    return QUICK.model_copy(update={"typing": request.param})
