"""AWQ's scales in whole runs: reported with what was left and why, delivered as scored, not made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.test_gptq_runs import perceptron
from tests.runs import assert_delivered_as_searched, stages_at_work, start, write_data
from trt_mpq.artifacts.store import read_given
from trt_mpq.engine.handover import DESCRIBED
from trt_mpq.pipeline.checks import without_effect
from trt_mpq.pipeline.refinement import Refinement
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision

SCALED = {
    "precisions": "fp16,int8,w4a16", "target_accuracy": 0.9, "device": "rtx4090", "calibration": "minmax", "awq": True,
    "engine": {"compile": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), perceptron(), calib=64)


@pytest.mark.parametrize(
    ("asked", "verdict", "delivered"),
    [
        ({}, "kept", "awq.onnx"),
        # what evens out weights makes activations uneven, and INT8 has one scale for all channels of these
        (
            {"precisions": "fp16,int8,w8a16", "metric": "sqnr"},
            "dropped because the scores of all formats fell in sum", "model.onnx",
        ),
    ],
)  # fmt: skip
def test_a_run_reports_it_for_every_format_and_delivers_what_was_scored(
    files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, str],
    verdict: str,
    delivered: str,
) -> None:
    folder, asked = tmp_path / "run", {**SCALED, **asked}
    report = start(files, folder, **asked).report()
    records = [record for record in report.refinement if record.name == Refinement.AWQ.value]
    assert {"fp16", *(str(record.precision) for record in records)} == set(str(asked["precisions"]).split(","))
    assert all(record.detail == f"2 tensors scaled; 1 left: it is an input, {verdict}" for record in records)
    gain = sum(record.after - record.before for record in records)
    assert (gain >= 0) == (verdict == "kept")
    assert all(record.after < record.before for record in records if record.precision is Precision.INT8)

    assert read_given(DESCRIBED, folder, "search").model.path == delivered
    assert_delivered_as_searched(folder)

    worked = stages_at_work(monkeypatch)
    start(files, folder, **asked).report()
    assert not worked & {"scaled", "ranges", "ranges.unscaled", "corrections"}


def test_without_a_format_that_it_is_for_it_does_nothing_and_says_so(files: dict[str, str], tmp_path: Path) -> None:
    asked = {**SCALED, "precisions": "fp16,int8"}
    (said,) = without_effect(settings_from({**files, **asked}, "test"))
    assert said.startswith("--awq has no effect in this run: it is for w8a16, w4a16 and nvfp4")
    names = [record.name for record in start(files, tmp_path / "run", **asked).report().refinement]
    assert Refinement.AWQ.value not in names
