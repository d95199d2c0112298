"""The comparison with published latencies: what is held out, what is left out, and the errors."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from bench.published import rows, split
from bench.published.judge import compared, errors, stated
from bench.published.networks import NETWORKS
from bench.published.rows import Point
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Precision

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
COLUMNS = (
    "model", "input", "batch", "gpu", "trt", "precision", "latency_ms", "method", "source", "note",
)  # fmt: skip
RESNET = ("ResNet-50", "224x224", "1", "T4", "8.6", "FP16", "1.2", "trtexec", "somewhere", "")


def found(tmp_path: Path, *changes: dict[str, str]) -> list[Point]:
    """Points of a table whose rows are that of a ResNet-50 on a T4 with something else in it."""
    file = tmp_path / "published.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(dict(zip(COLUMNS, RESNET, strict=True)) | change for change in changes)
    return rows.points(dict.fromkeys(NETWORKS, 8_000_000_000), file)


def test_rows_of_one_source_are_one_point(tmp_path: Path):
    (point,) = found(tmp_path, {}, {"precision": "INT8", "latency_ms": "0.8"}, {"precision": "FP32", "latency_ms": "3"})
    assert (point.network, point.device, point.batch) == ("resnet50", "t4", 1)
    assert point.ms == {FP16: 1.2, INT8: 0.8, FP32: 3.0}
    assert point.ratio(INT8) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "unknown"},
        {"gpu": "V100"},
        {"precision": "INT8-mixed"},
        {"precision": "FP32/TF32", "latency_ms": "3"},
        {"method": "FasterTransformer plugin"},
        {"note": "SUSPECT: the table of another GPU"},
        {"latency_ms": "0.1"},  # 8 GFLOP take 0.12 ms at 65 TFLOPS
        {"source": "DeepLearningExamples", "latency_ms": "1.4"},  # the host takes 0.5 ms of it
    ],
)
def test_what_cannot_be_compared_is_left_out(tmp_path: Path, change: dict[str, str]):
    assert found(tmp_path, change) == []


def test_times_per_image_and_the_hosts_work(tmp_path: Path):
    per_image, with_host = found(
        tmp_path,
        {"note": "times are per image", "batch": "8"},
        {"source": "DeepLearningExamples", "latency_ms": "4.5"},
    )
    assert per_image.ms == {FP16: pytest.approx(9.6)}
    assert with_host.ms == {FP16: pytest.approx(4.0)}


def test_the_draw_is_the_one_that_the_table_was_judged_by():
    architectures, devices = split.held_out()
    assert devices == {"a10", "l4"}
    assert {"BERT large", "ResNet-50", "RT-DETR-R101"} <= architectures
    assert len(architectures) == 13


def test_nothing_that_a_fit_sees_is_of_a_device_or_architecture_that_is_held_out(tmp_path: Path):
    both = found(tmp_path, {}, {"gpu": "L4"}, {"model": "ResNet-34"}, {"model": "ResNet-34", "gpu": "L4"})
    seen, judged = split.split(both)
    assert [(point.architecture, point.device) for point in seen] == [("ResNet-34", "t4")]
    assert len(judged) == 3


def test_errors_worked_out_by_hand():
    published = [{FP16: 1.0, INT8: 0.5}, {FP16: 2.0, INT8: 1.6}, {FP16: 1.0, INT8: 0.7}, {FP16: 1.0, INT8: 0.6}]
    modelled = [{FP16: 1.0, INT8: 0.6}, {FP16: 1.0, INT8: 0.7}, {FP16: 1.0, INT8: 0.8}, {FP16: 1.0, INT8: 0.5}]
    target = target_from_name("t4")
    names = ("resnet50", "resnet50", "resnet34", "resnet34")
    points = [Point(n, "t4", target, i, ms, "") for i, (n, ms) in enumerate(zip(names, published, strict=True))]
    comparisons = compared(points, lambda point, precision: modelled[point.batch][precision])
    whole = errors(comparisons)
    assert (whole.ratios, whole.times) == (4, 8)
    assert whole.ratio == pytest.approx(0.1)
    assert whole.bias == pytest.approx((0.1 - 0.1 + 0.1 - 0.1) / 4)
    assert whole.rank == pytest.approx(1 - 6 * (1 + 1 + 1 + 1) / (4 * 15))  # 0.5 0.8 0.7 0.6 against 0.6 0.7 0.8 0.5
    logs = [math.log(m[p] / ms[p]) for ms, m in zip(published, modelled, strict=True) for p in ms]
    assert whole.log == pytest.approx(sum(map(abs, logs)) / 8)
    halves = [errors(comparisons[:2]), errors(comparisons[2:])]
    times, ratio = stated(comparisons)
    assert times == pytest.approx((halves[0].log + halves[1].log) / 2)  # type: ignore[operator]
    assert ratio == pytest.approx((halves[0].ratio + halves[1].ratio) / 2)  # type: ignore[operator]
