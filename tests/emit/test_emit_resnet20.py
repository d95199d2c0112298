"""ResNet-20 on real images: delivered files give what the search measured, wherever they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.emit.examples import LEVELS, deviation, run_plainly
from tests.prepared import RUNTIME, Prepared, prepare
from trt_mpq.emit import Emitter
from trt_mpq.emit.deliver import deliver
from trt_mpq.types import Precision, PrecisionPlan

IMAGES = 200
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
precisions = pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8, Precision.FP8, Precision.INT4])
pytestmark = pytest.mark.data


@dataclass(frozen=True)
class ResNet20:
    network: Prepared
    emitter: Emitter
    images: np.ndarray
    labels: np.ndarray

    def plan(self, precision: Precision) -> PrecisionPlan:
        return PrecisionPlan.uniform(self.network.grouping.groups, precision, Precision.FP16)

    def correct(self, logits: np.ndarray) -> int:
        return int(np.sum(logits.argmax(axis=1) == self.labels))


@pytest.fixture(scope="module")
def resnet20(data_dir: Path) -> ResNet20:
    network = prepare(onnx.load(data_dir / "cifar10" / "resnet20.onnx"))
    calibration, _ = images(data_dir / "cifar10" / "calib.npz", 100)
    ranges = network.calibrated(network.samples(calibration), batch=50)
    return ResNet20(
        network,
        Emitter(network.graph, network.grouping, ranges),
        *images(data_dir / "cifar10" / "test.npz", IMAGES),
    )


def images(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as arrays:
        pixels, labels = arrays["images"][:count], arrays["labels"][:count]
    normalized = (pixels.astype(np.float32) / 255 - MEAN) / DEVIATION
    return np.ascontiguousarray(normalized.transpose(0, 3, 1, 2)), labels


@precisions
def test_the_reference_file_gives_the_same_bits_at_every_level(
    precision: Precision, resnet20: ResNet20, tmp_path: Path
) -> None:
    plan, feeds = resnet20.plan(precision), {"input": resnet20.images}
    measured = RUNTIME.load(resnet20.emitter.reference(plan)).run(feeds)["logits"]
    deliver(resnet20.emitter, plan, tmp_path)
    for level in LEVELS:
        logits = run_plainly((tmp_path / "reference.onnx").read_bytes(), feeds, level)["logits"]
        np.testing.assert_array_equal(logits, measured)


@precisions
def test_typed_and_reference_flavour_agree(precision: Precision, resnet20: ResNet20) -> None:
    """They differ by FP16 rounding, which moves a value near the middle of two codes to the other one."""
    plan, feeds = resnet20.plan(precision), {"input": resnet20.images}
    exact = RUNTIME.load(resnet20.network.graph).run(feeds)["logits"]
    reference = RUNTIME.load(resnet20.emitter.reference(plan)).run(feeds)["logits"]
    typed = RUNTIME.load(resnet20.emitter.strong(plan)).run(feeds)["logits"]
    own_error = max(deviation(exact, reference), 1e-3)
    assert deviation(reference, typed) < 1.5 * own_error
    assert deviation(exact, typed) < 1.5 * own_error
    assert abs(resnet20.correct(typed) - resnet20.correct(reference)) <= (10 if precision is Precision.INT4 else 2)


@pytest.mark.parametrize(("precision", "kept"), [(Precision.FP16, 0.99), (Precision.INT8, 0.98), (Precision.FP8, 0.96)])
def test_uniform_plans_keep_what_they_should(precision: Precision, kept: float, resnet20: ResNet20) -> None:
    feeds = {"input": resnet20.images}
    exact = resnet20.correct(RUNTIME.load(resnet20.network.graph).run(feeds)["logits"])
    assert exact >= 0.88 * IMAGES
    graph = resnet20.emitter.reference(resnet20.plan(precision))
    assert resnet20.correct(RUNTIME.load(graph).run(feeds)["logits"]) >= kept * exact
