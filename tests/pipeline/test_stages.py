"""What the stages of whole runs declare: nothing less than they read, and no setting without reason."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import onnx
import pytest
from pydantic_core import to_jsonable_python

from tests.fakes.fixtures import PretendGpu, pretend_gpu  # noqa: F401 - a fixture
from tests.networks import mlp
from tests.runs import Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.artifacts.stage import Job, Stage, StageError, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.pipeline.run import Run
from trt_mpq.types import SilentObserver

QUICK_ENGINE = {"rounds": 2, "round_ms": 1.0, "warm_up_ms": 0.0}


@dataclass(frozen=True)
class Done:
    """A finished run, and every stage that it asked for."""

    run: Run
    folder: Path
    stages: tuple[Stage[Any], ...]


def whole(home: Path, network: onnx.ModelProto | None = None, *, evaluates: bool = True, **settings: object) -> Done:
    files = write_data(home, network or mlp())
    if not evaluates:
        files.pop("eval")
    asked: dict[str, Stage[Any]] = {}
    value_of = Store.__getitem__

    def recorded(store: Store, stage: Stage[Any]) -> Any:
        asked.setdefault(stage.identity, stage)
        return value_of(store, stage)

    with mock.patch.object(Store, "__getitem__", recorded):
        run = start(files, home / "run", Recorder(), **settings)
        run.sensitivities()
        run.report()
    return Done(run, home / "run", tuple(asked.values()))


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
    except StageError:
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
    for need in (
        "restricted-groups",
        "graph",
        "calibration-data",
        "runtime",
        "evaluation-data",
        "metric",
        "outputs",
        "batch",
    )
} | {
    ("early-stop", "fp32"),  # read through the file that lies beside it
    ("comparison", "delivery"),  # the same
    ("verification", "delivery"),  # the same
    ("comparison", "verified"),  # what is compared has been verified
    ("delivered-refinements", "roundings-plan"),  # asked for where they were better, which they are not here
    ("calibration-data", "model"),  # asked for the states of sequences, which no run here has
    ("evaluation-rows", "model"),  # the same
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


FASTER = {"threads", "batch", "workers", "ray", "worker-pool", "schedule", "spread", "distribution", "baseline-fault"}
"""What decides only how fast a value is made, or in which words it is not."""


def assert_well_declared(stage: Stage[Any]) -> None:
    """What tells one value of the stage from another is in its key, or in the value itself."""
    assert not {"threads", "workers", "ray", "engine"} & set(stage.reads), stage.name
    told_by_value = stage.digest is not None and stage.kind is None
    looked_at = stage.holds is not Stage.holds
    used = {one if isinstance(one, str) else one.name for one in stage.uses}
    assert used <= FASTER or told_by_value or looked_at, stage.name
    if not told_by_value and stage.name != "distribution":
        said = [stage.name, *stage.files, json.dumps(to_jsonable_python(stage.constants))]
        for value in captured(stage.make):
            text = value if isinstance(value, str) else json.dumps(to_jsonable_python(value))
            assert any(text in words for words in said), f"{stage.name} was defined with {value!r} and does not say so"


def captured(value: Any) -> Iterator[Any]:
    """What a stage was defined with, beside stages: those it can read only if it declares them."""
    if isinstance(value, Stage | type):
        return
    if isinstance(value, FunctionType):
        if value.__module__.startswith("trt_mpq.pipeline"):
            for part in inspect.getclosurevars(value).nonlocals.values():
                yield from captured(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from captured(part)
    elif isinstance(value, tuple | list) and any(isinstance(part, Stage) for part in value):
        for part in value:
            yield from captured(part)
    elif is_dataclass(value) and any(isinstance(getattr(value, one.name), Stage) for one in fields(value)):
        for one in fields(value):
            yield from captured(getattr(value, one.name))
    elif value is not None:
        yield value


def test_what_tells_one_value_from_another_is_in_its_key(runs: list[Done]) -> None:
    for done in runs:
        for stage in done.stages:
            assert_well_declared(stage)


@pytest.mark.parametrize("secret", [0.5, "fp16", Path("somewhere"), {"int8": "mse"}], ids=str)
def test_a_stage_that_was_defined_with_more_than_it_says_is_found(secret: object) -> None:
    def make(job: Job) -> object:
        return secret

    make.__module__ = "trt_mpq.pipeline.example"
    with pytest.raises(AssertionError, match="does not say so"):
        assert_well_declared(Stage("example", make, json_kind(float)))
    assert_well_declared(Stage("example", make, json_kind(float), constants=(secret,)))


def test_the_device_half_declares_what_it_reads(
    tmp_path: Path,
    pretend_gpu: PretendGpu,  # noqa: F811
) -> None:
    pretend_gpu()
    done = whole(tmp_path, tiny_cnn(), precisions="int8", engine=QUICK_ENGINE, batch=8)
    device = [stage for stage in done.stages if stage.name.startswith(("engine/", "deployment", "searched-emitter"))]
    assert {stage.name for stage in device} >= {"deployment", "engine/builds/fp16", "engine/refined/plan-network"}
    declared, read = set(), set()
    for stage in device:
        assert_well_declared(stage)
        if stage.name.endswith(("plan", "plan-network", "deployment", "emitter")):
            for name, nosy in (*without_a_setting(stage), *without_a_stage(stage)):
                declared.add((stage.name, name))
                if refused(done, nosy, done.folder):
                    read.add((stage.name, name))
    of_engine = {("engine/refined/plan", f"engine.{name}") for name in done.run.settings.engine.of_engine()}
    assert declared - read == of_engine, "they are handed on as a whole"
    assert {("deployment", "network"), ("deployment", "searched"), ("searched-emitter", "searched")} <= read
