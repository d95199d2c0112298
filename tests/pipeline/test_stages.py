"""What the stages of whole runs declare: nothing less than they read, and no setting without reason."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.fakes.fixtures import PretendGpu, pretend_gpu  # noqa: F401 - a fixture
from tests.networks import mlp
from tests.runs import Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.artifacts.stage import Stage, UndeclaredError
from trt_mpq.artifacts.store import Store
from trt_mpq.pipeline.run import Run
from trt_mpq.types import SilentObserver

QUICK_ENGINE = {"rounds": 2, "round_ms": 1.0, "warm_up_ms": 0.0}


@dataclass(frozen=True)
class Done:
    """A finished run."""

    run: Run
    folder: Path

    @property
    def stages(self) -> tuple[Stage[Any], ...]:
        return tuple(self.run.store.stages.values())


def whole(home: Path, network: onnx.ModelProto | None = None, *, evaluates: bool = True, **settings: object) -> Done:
    files = write_data(home, network or mlp())
    if not evaluates:
        files.pop("eval")
    run = start(files, home / "run", Recorder(), **settings)
    run.sensitivities()
    run.report()
    return Done(run, home / "run")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """Runs that take every branch in which a setting is read, but for those of a GPU."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

    def home() -> Path:
        return tmp_path_factory.mktemp("run")

    everything = {
        "precisions": "fp8,int8", "calibration": "mse,minmax", "equalize": True, "smooth": True, "adaround": True,
        "adaround_steps": 2, "sensitivity": "noise,hessian", "trials": 1, "calib_samples": 16, "eval_samples": 90,
        "search": "greedy", "target_accuracy": 0.99, "device": "l4",
    }  # fmt: skip
    mixed = {
        "precisions": "int8,int4", "target_accuracy": 0.99, "calibration": "mse", "search": "bisection",
        "sensitivity": "noise", "latency": "modelled",
    }  # fmt: skip
    return [
        whole(home(), **everything),
        whole(home(), evaluates=False, calibration="mse,minmax", search="pareto", calib_samples=20, precisions="int8"),
        whole(home(), target_size="1MB", precisions="int8", bias_correction=False),
        whole(home(), tiny_cnn(), device=slow_device(home() / "slow.toml", 1e-3), **mixed),
    ]


def refused(done: Done, stage: Stage[Any], folder: Path) -> bool:
    """Whether making `stage` ends because it reads what it does not declare."""
    store = Store(folder, done.run.settings, SilentObserver(), locked=False)
    try:
        store[stage]
    except UndeclaredError:
        return True
    return False


def without_a_setting(stage: Stage[Any]) -> Iterator[tuple[str, Stage[Any]]]:
    for name in stage.reads:
        left = tuple(other for other in stage.reads if other != name)
        yield name, replace(stage, reads=left, name=f"{stage.name}-nosy")


def without_a_stage(stage: Stage[Any]) -> Iterator[tuple[str, Stage[Any]]]:
    for need in stage.needs:
        left = tuple(other for other in stage.needs if other is not need)
        yield need.name, replace(stage, needs=left, name=f"{stage.name}-nosy")


def plain(stage: Stage[Any]) -> str:
    """The name without what it is made for."""
    return stage.name.partition(" ")[0]


def test_every_declared_setting_is_read_and_could_not_be_otherwise(runs: list[Done], tmp_path: Path) -> None:
    """So a stage that reads a setting which it does not declare fails at its first run, and no key has too many."""
    declared, read = set(), set()
    for number, done in enumerate(runs):
        folder = Path(shutil.copytree(done.folder, tmp_path / str(number)))
        for stage in done.stages:
            for name, nosy in without_a_setting(stage):
                declared.add((plain(stage), name))
                if (plain(stage), name) not in read and refused(done, nosy, folder):
                    read.add((plain(stage), name))
    assert {stage for stage, _ in declared} >= {
        "ranges",
        "sensitivity",
        "problems",
        "search",
        "required",
        "evaluation-data",
    }
    assert sorted(declared - read) == []


NOT_ASKED_FOR = {
    ("scores", need)
    for need in ("restricted-groups", "graph", "calibration-data", "runtime", "evaluation-data", "metric", "batch")
} | {
    ("early-stop", "fp32"),  # read through the file that lies beside it
    ("comparison", "delivery"),  # the same
    ("verification", "delivery"),  # the same
    ("comparison", "verified"),  # what is compared has been verified
    ("delivered-refinements", "roundings-plan"),  # asked for where they were better, which they are not here
}
"""What a value depends on although its stage asks only for its key or for files, or for nothing but the order."""


def test_every_stage_asks_for_what_it_needs_and_could_not_ask_for_more(runs: list[Done], tmp_path: Path) -> None:
    declared, asked = set(), set()
    for number, done in enumerate(runs):
        folder = Path(shutil.copytree(done.folder, tmp_path / str(number)))
        for stage in done.stages:
            for name, nosy in without_a_stage(stage):
                pair = (plain(stage), name.partition(" ")[0])
                declared.add(pair)
                if pair not in asked and refused(done, nosy, folder):
                    asked.add(pair)
    assert len(declared) > 60
    assert sorted(declared - asked - NOT_ASKED_FOR) == []


def test_what_only_decides_how_fast_is_in_no_key(runs: list[Done]) -> None:
    for done in runs:
        for stage in done.stages:
            assert not {"threads", "workers", "ray", "engine", "observer"} & set(stage.reads), stage.name


def test_kept_stages_have_names_of_their_own(runs: list[Done]) -> None:
    for done in runs:
        kept = [file for stage in done.stages if stage.kind for file in stage.written]
        assert len(kept) == len(set(kept))


def test_the_device_half_declares_what_it_reads(
    tmp_path: Path,
    pretend_gpu: PretendGpu,  # noqa: F811
) -> None:
    pretend_gpu()
    done = whole(tmp_path, precisions="int8", engine=QUICK_ENGINE, batch=8)
    declared, read = set(), set()
    for stage in done.stages:
        if stage.name.startswith("engine/builds"):
            for name, nosy in without_a_setting(replace(stage, uses=tuple(u for u in stage.uses if u != "engine"))):
                declared.add((stage.name.endswith("-network"), name))
                if refused(done, nosy, done.folder):
                    read.add((stage.name.endswith("-network"), name))
    networks = {name for of_network, name in declared if of_network}
    assert networks == {"engine.typing", "engine.shapes"}
    assert read >= {(True, name) for name in networks}
    shown = {name for of_network, name in declared if not of_network}
    assert shown == {f"engine.{name}" for name in done.run.settings.engine.of_engine()}
