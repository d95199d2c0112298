"""Networks that give their rows on another axis than the first, as recognizers of text and states do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.networks import Builder
from tests.prepared import normal
from tests.runs import Recorder, start
from trt_mpq.pipeline.run import Run


def recognizer(turned: bool) -> onnx.ModelProto:
    """Three layers on 6 steps of 16 features; [steps, rows, 20], or [rows, steps, 20] if it is not `turned`."""
    b = Builder(0)
    x = b.relu("first.relu", b.linear("first", "input", (16, 32)))
    x = b.relu("second.relu", b.linear("second", x, (32, 32)))
    x = b.linear("third", x, (32, 20))
    b.node("Transpose", "turn", [x], perm=[1, 0, 2]) if turned else b.node("Identity", "turn", [x])
    proto = b.model((6, 16), (6, 20))
    if turned:
        declared = helper.make_tensor_value_info("output", TensorProto.FLOAT, [6, "rows", 20])
        proto.graph.output[0].CopyFrom(declared)
    return proto


def run(folder: Path, turned: bool, **settings: object) -> Run:
    folder.mkdir()
    onnx.save(recognizer(turned), folder / "net.onnx")
    np.savez(folder / "data.npz", input=normal(20, 6, 16))
    data = str(folder / "data.npz")
    files = {"model": str(folder / "net.onnx"), "calib": data, "eval": data}
    return start(files, folder / "run", Recorder(), **{"metric": "sqnr", "target_accuracy": 0.7, **settings})


@pytest.mark.parametrize("metric", ["sqnr", "cosine"])
def test_the_axis_changes_neither_scores_nor_plans(metric: str, tmp_path: Path) -> None:
    """20 samples in batches of 8, so that parts are joined; 6 steps, which 2 and 3 samples divide."""
    plain, turned = (
        run(tmp_path / str(one), one, metric=metric, batch=8, precisions="fp16,int8", search="greedy")
        for one in (False, True)
    )
    expected, found = plain.search(), turned.search()
    assert [step.score.value for step in found.path] == pytest.approx([step.score.value for step in expected.path])
    assert [step.plan for step in found.path] == [step.plan for step in expected.path]


@pytest.mark.parametrize("sensitivity", ["fisher", "hessian", "noise", "output-sqnr"])
def test_the_axis_changes_no_sensitivity(sensitivity: str, tmp_path: Path) -> None:
    if sensitivity == "fisher":
        pytest.importorskip("torch")
    rankings = [
        run(tmp_path / str(one), one, sensitivity=sensitivity, batch=3).sensitivities() for one in (False, True)
    ]
    (plain,), (turned,) = ([*found.rankings] for found in rankings)
    for precision, scores in plain.scores.items():  # the Transpose runs in FP16, which the other has not
        assert turned.scores[precision] == pytest.approx(scores, rel=5e-3)


def test_the_delivered_file_is_compared_row_by_row(tmp_path: Path) -> None:
    found = run(tmp_path / "run", True, batch=8, search="uniform")
    found.emit()
    (output,) = found.compare().outputs
    assert output.output == "output"
    assert output.sqnr_db is not None
    assert output.sqnr_db > 20
