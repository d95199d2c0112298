"""A model that takes one row at a time, though its file declares any number: `--batch 1` holds in every stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.networks import Builder
from tests.runs import start


def one_row() -> onnx.ModelProto:
    """A convolution and two linear layers, with the batch of 1 that was traced in the Reshape between them."""
    b = Builder(0)
    seen = b.relu("seen.relu", b.conv("seen", "input", (3, 16)))
    flat = b.node("Reshape", "flat", [seen, b.constant("shape", np.array([1, 256]))])
    b.linear("head", b.relu("hidden.relu", b.linear("hidden", flat, (256, 16))), (16, 16))
    return b.model((3, 4, 4), (16,))


def test_one_row_at_a_time_is_enough(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    onnx.save(one_row(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", input=np.random.default_rng(0).standard_normal((5, 3, 4, 4)).astype(np.float32))
    data = str(tmp_path / "data.npz")
    files = {"model": str(tmp_path / "net.onnx"), "calib": data, "eval": data}
    everything = {
        "equalize": True, "smooth": True, "adaround": True, "adaround_steps": 2, "calibration": "mse,minmax",
        "sensitivity": "noise,hessian,fisher,output-sqnr,task-loss", "trials": 1, "search": "bisection",
    }  # fmt: skip
    run = start(files, tmp_path / "run", batch=1, precisions="int8", metric="sqnr", **everything)
    run.sensitivities()
    assert run.report().accuracy.plan > 0
