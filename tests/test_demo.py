"""The demo: honest data, a network that knows it, and a build that a user could have typed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from tests.runs import Recorder
from trt_mpq.cli import app
from trt_mpq.demo import _CALIB_SAMPLES, MODEL, load_digits, prepare_demo
from trt_mpq.errors import RunFolderError
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision

pytest.importorskip("sklearn", reason="the demo needs scikit-learn")


def test_split_takes_every_published_image_once() -> None:
    from sklearn.datasets import load_digits as published

    train, evaluation = load_digits()
    assert (len(train.labels), len(evaluation.labels)) == (1000, 797)
    everything = np.concatenate([train.images, evaluation.images]).reshape(1797, -1)
    assert sorted(map(tuple, everything * 16)) == sorted(map(tuple, published().data))


def test_network_is_what_it_claims() -> None:
    assert MODEL.stat().st_size < 300_000
    proto = onnx.load(MODEL)
    onnx.checker.check_model(proto, full_check=True)
    operators = [node.op_type for node in proto.graph.node]
    assert operators.count("Conv") >= 8
    assert {"BatchNormalization", "Add", "Gemm"} <= set(operators)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_network_knows_digits_it_has_never_seen() -> None:
    import onnxruntime

    _, evaluation = load_digits()
    [logits] = onnxruntime.InferenceSession(MODEL).run(None, {"image": evaluation.images})
    assert np.mean(logits.argmax(axis=1) == evaluation.labels) == pytest.approx(791 / 797, abs=2 / 797)


def test_data_fit_the_network(tmp_path: Path) -> None:
    fields = prepare_demo(tmp_path / "run")
    names = {value.name for value in onnx.load(MODEL).graph.input}
    for kind, count in (("calib", _CALIB_SAMPLES), ("eval", 797)):
        with np.load(fields[kind]) as arrays:
            assert set(arrays) == names | {"labels"}
            assert arrays["image"].shape == (count, 1, 8, 8)
            assert arrays["image"].dtype == np.float32
            assert 0 <= arrays["image"].min() < arrays["image"].max() == 1


def test_a_folder_of_another_model_stays_untouched(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"source_sha256": "0" * 64, "source": "other.onnx"}))
    with pytest.raises(RunFolderError, match=r"other\.onnx"):
        prepare_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_demo_builds_and_the_printed_command_does_the_same(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "trt_mpq", "demo", "-o", str(run), "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    accuracy = report["accuracy"]
    assert accuracy["plan"] >= accuracy["target"] == 0.9999 * accuracy["fp32"]
    assert accuracy["uniform"]["int8"] < accuracy["target"], "the demo shows a search that was needed"
    assert len(report["plan"]["counts"]) == 2
    assert (run / "typed.onnx").exists()

    [command] = [line for line in done.stderr.splitlines() if "trt-mpq build" in line]
    arguments = shlex.split(command.partition("trt-mpq ")[2])
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert again.exit_code == 0, again.output
    assert "Searching" not in again.stderr, "everything is read back from the run folder"
    assert json.loads(again.stdout)["plan"] == report["plan"]


def test_the_network_in_bf16_and_int8(tmp_path: Path) -> None:
    fields = {**prepare_demo(tmp_path / "run"), "precisions": ("bf16", "int8"), "threads": 1}
    report = Run(settings_from(fields, "test"), tmp_path / "run", Recorder(), "trt-mpq build").report()
    assert set(report.plan.counts) == {Precision.BF16, Precision.INT8}
    assert report.accuracy.plan is not None
    assert report.accuracy.target is not None
    assert report.accuracy.plan >= report.accuracy.target
    bf16 = report.accuracy.uniform[Precision.BF16]
    assert bf16 is not None
    assert 1 - bf16 < 2.0**-12, "eight significant bits: noise of about 2^-16 of the signal per rounding"
    scores = json.loads((tmp_path / "run" / "verification.json").read_text())
    assert scores["typed"]["value"] == pytest.approx(scores["reference"]["value"], abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'class="chip bf16"' in page
    assert "FP16" not in page
