"""Whole runs on a tiny network with synthetic data, and an observer that writes down or interrupts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.networks import Builder
from trt_mpq.artifacts.store import Store
from trt_mpq.engine.handover import read_network, read_searched
from trt_mpq.pipeline.run import Run
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.settings import settings_from
from trt_mpq.types import Evaluation
from trt_mpq.types.observer import Progress


def tiny_cnn(seed: int = 0) -> onnx.ModelProto:
    """Three convolutions, one of them around a shortcut, and a classifier: 3x8x8 to 10 classes in under 10k weights."""
    b = Builder(seed)
    stem = b.relu("stem.relu", b.conv("stem", "input", (3, 16)))
    x = b.conv("second", b.relu("first.relu", b.conv("first", stem, (16, 16))), (16, 16))
    b.classifier(b.relu("join.relu", b.node("Add", "join", [x, stem])), 16, 10)
    return b.model((3, 8, 8), (10,))


def write_data(folder: Path, proto: onnx.ModelProto, calib: int = 24, evaluation: int = 100) -> dict[str, str]:
    """The network as `net.onnx`, `calib.npz` and `eval.npz` with labels: what the network says, one in ten wrong."""
    onnx.save(proto, folder / "net.onnx")
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    generator = np.random.default_rng(0)
    session = OnnxRuntime(1).load(folder / "net.onnx")
    for name, count in (("calib", calib), ("eval", evaluation)):
        values = generator.standard_normal((count, *shape)).astype(np.float32)
        labels = session.run({"input": values})["output"].argmax(axis=1)
        labels[::10] = (labels[::10] + 1) % 10
        np.savez(folder / f"{name}.npz", input=values, labels=labels)
    return {"model": str(folder / "net.onnx"), "calib": str(folder / "calib.npz"), "eval": str(folder / "eval.npz")}


QUICK = {"exclusions": "none", "sensitivity_samples": 8, "threads": 1, "target_accuracy": 0.98}
"""Settings that keep a run short."""


class Recorder:
    """An observer that keeps what it is told.

    Args:
        interrupt_at: Number of the event, from 0, at which to press Ctrl-C; None lets the run end.
    """

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.events: list[str] = []
        self.stages: list[str] = []
        self.evaluations: list[Evaluation] = []
        self._interrupt_at = interrupt_at

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        self.stages.append(title)
        self._happens(f"begin {title}")
        yield lambda done, total: self._happens(f"{title} {done}/{total}")
        self._happens(f"end {title}")

    def evaluated(self, evaluation: Evaluation, metric: str, required: float) -> None:
        self.evaluations.append(evaluation)
        self._happens(f"evaluated {evaluation.note}")

    def note(self, text: str) -> None:
        self._happens(f"note {text}")

    def _happens(self, event: str) -> None:
        if self._interrupt_at == len(self.events):
            raise KeyboardInterrupt
        self.events.append(event)


def start(files: dict[str, str], folder: Path, observer: Recorder | None = None, **settings: object) -> Run:
    """A run that has not done anything yet."""
    return Run(settings_from({**files, **QUICK, **settings}, "test"), folder, observer or Recorder(), "trt-mpq build")


def stages_at_work(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kept stages that do work from now on, those read back left out; the set grows as they do."""
    worked: set[str] = set()
    original = Store._write

    def write(self, stage, path):
        original(self, stage, path)
        worked.add(stage.name)

    monkeypatch.setattr(Store, "_write", write)
    return worked


def slow_device(path: Path, bandwidth_gb_s: float = 1e6) -> str:
    """A device model on which a tiny network is bound by arithmetic, or by a small bandwidth: narrow formats pay."""
    numbers = {
        "sm": 87,
        "multiprocessors": 1,
        "clock_ghz": 1,
        "l2_mb": 1e-9,
        "bandwidth_gb_s": bandwidth_gb_s,
        "launch_us": 1e-6,
        "compute_efficiency": 1,
        "eight_bit_efficiency": 1,
        "memory_efficiency": 1,
    }
    peaks = {f"peak_tops.{precision}": value for precision, value in (("fp32", 1e-3), ("fp16", 2e-3), ("int8", 4e-3))}
    tables = [
        f'[{name}]\nvalue = {value}\nsource = "assumption: a test"\ndate = 2026-11-24\n'
        for name, value in {**numbers, **peaks}.items()
    ]
    path.write_text('name = "slow"\ndescription = "slow"\n' + "\n".join(tables))
    return str(path)


def assert_delivered_as_searched(folder: Path) -> None:
    """The constants of `typed.onnx` are those of the plan that the search in `folder` chose, bit for bit."""
    searched = read_searched(folder)
    emitter = searched.emitter(read_network(folder).network(folder), folder)
    emitted = ir.to_proto(emitter.strong(searched.result.chosen.plan))
    delivered = onnx.load(folder / "typed.onnx")
    for own, other in zip(emitted.graph.initializer, delivered.graph.initializer, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(own), onnx.numpy_helper.to_array(other))
