"""Whole runs with formats for matrix products: what is delivered, what stands for it, and who lacks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emit.test_blocks import perceptron
from tests.runs import start, write_data
from trt_mpq.errors import SettingsError
from trt_mpq.types import Precision

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
W8A16, W4A16, NVFP4 = Precision.W8A16, Precision.W4A16, Precision.NVFP4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), perceptron())


def test_nvfp4_is_scored_and_compared_by_its_reference_and_says_so(files: dict[str, str], tmp_path: Path) -> None:
    run = start(
        files, tmp_path, precisions="fp16,fp8,nvfp4", device="rtx5090", search="uniform", target_accuracy=0.01,
        keep=("nvfp4:first", "nvfp4:second"),
    )  # fmt: skip
    report = run.report()
    assert report.plan.counts[NVFP4] == 2
    assert set(report.plan.counts) <= {FP16, FP8, NVFP4}
    assert report.comparison is not None
    assert report.comparison.file == "reference.onnx"
    assert any("typed.onnx holds operators of NVIDIA's domain `trt`" in warning for warning in report.warnings)
    assert (tmp_path / "typed.onnx").exists()
    assert "blocks of 16" in (tmp_path / "placement.txt").read_text()


def test_weights_alone_are_scored_by_the_typed_file(files: dict[str, str], tmp_path: Path) -> None:
    run = start(
        files, tmp_path, precisions="fp16,w8a16,w4a16", device="rtx3090", target_accuracy=0.01,
        keep=("w4a16:first", "w8a16:second"),
    )  # fmt: skip
    report = run.report()
    assert {row.precision for row in report.group_rows} >= {W4A16, W8A16}
    assert report.calibration.methods == {}
    assert report.plan.mac_share == 0.0
    assert report.comparison is not None
    assert report.comparison.file == "typed.onnx"
    assert report.comparison.failed == ()


def test_a_size_target_is_met_by_weights_in_4_bit(files: dict[str, str], tmp_path: Path) -> None:
    sizes = start(files, tmp_path, precisions="fp16,int8,w4a16", device="rtx3090").report().size_bytes
    least = sizes.uniform[W4A16]
    assert least < sizes.uniform[INT8]
    within = start(files, tmp_path, precisions="fp16,int8,w4a16", device="rtx3090", target_size=least)
    assert within.report().size_bytes.plan <= least


@pytest.mark.parametrize(
    ("device", "precision"), [("l4", "nvfp4"), ("h200", "nvfp4"), ("t4", "w4a16"), ("t4", "w8a16")]
)
def test_a_device_without_a_format_refuses_it_in_one_sentence(
    device: str, precision: str, files: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=f"^{device} has no {precision} arithmetic: leave {precision} out of"):
        start(files, tmp_path, precisions=f"fp16,{precision}", device=device).search()
