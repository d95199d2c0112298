"""GPTQ and clipped scales in whole runs: reported, kept by effect, delivered as scored, found by the device half."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.networks import Builder
from tests.runs import assert_delivered_as_searched, stages_at_work, start, write_data
from trt_mpq.engine.handover import read_searched
from trt_mpq.errors import SettingsError
from trt_mpq.pipeline.refinement import Refinement
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision

FOUND = {
    "precisions": "fp16,w4a16", "target_accuracy": 0.9, "target_size": 40_000, "device": "rtx4090",
    "calibration": "minmax", "clip_weights": True, "gptq": True, "engine": {"compile": False},
}  # fmt: skip


def perceptron() -> onnx.ModelProto:
    b = Builder(0)
    x = b.relu("first.relu", b.gemm("first", b.node("Flatten", "flat", ["input"]), (128, 256)))
    b.gemm("last", b.relu("second.relu", b.gemm("second", x, (256, 128))), (128, 10))
    return b.model((128,), (10,))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), perceptron(), calib=64)


def test_a_run_reports_both_and_delivers_what_was_scored(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    report = start(files, folder, **FOUND).report()
    assert report.plan.counts[Precision.W4A16] > 0
    records = {record.name: record for record in report.refinement}
    for name, done in ((Refinement.WEIGHT_SCALES.value, "clipped"), (Refinement.GPTQ.value, "rounded")):
        record = records[name]
        assert record.precision is Precision.W4A16
        assert record.detail.startswith(f"3 weights {done}")
        assert record.detail.endswith("kept" if record.after >= record.before else "dropped because the score fell")

    searched = read_searched(folder)
    assert searched.weights == any(record.detail.endswith("kept") for record in records.values())
    assert all((folder / name).is_file() for name in searched.files)
    assert_delivered_as_searched(folder)

    worked = stages_at_work(monkeypatch)
    start(files, folder, **FOUND).report()
    assert not {name for name in worked if name.startswith("weights")}


@pytest.mark.parametrize("option", ["gptq", "clip_weights"])
def test_only_one_may_round_the_weights(files: dict[str, str], option: str) -> None:
    with pytest.raises(SettingsError, match="excludes adaround"):
        settings_from({**files, "adaround": True, option: True}, "test")
