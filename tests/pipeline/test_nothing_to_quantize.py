"""Models without anything to search for end in a sentence before any work on the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.networks import parsed
from tests.runs import Recorder, start
from trt_mpq.errors import ModelError

BODIES = {
    "y = Relu(x)": r"nothing to quantize \(it has no convolution and no matrix product\): build it in FP16 as it is",
    "a = MatMul(v, x) y = Unsqueeze(a, last)": r"nothing to quantize \(MatMul.a \(MatMul\): its weight v is a vector",
    "a = MatMul(x, v) y = Unsqueeze(a, last)": r"\(MatMul.a \(MatMul\): its weight v is a vector",
}


@pytest.mark.parametrize("body", BODIES)
def test_a_model_with_nothing_to_quantize_is_told(body: str, tmp_path: Path) -> None:
    text = f"g (float[N,4,4] x) => (float[N,4,m] y) {{ {body} }}"
    constants = {"w": np.ones((4, 4), np.float32), "v": np.ones(4, np.float32), "last": np.array([2])}
    onnx.save(parsed(f'<ir_version: 8, opset_import: ["":17]> {text}', constants), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((3, 4, 4), np.float32))
    data, observer = str(tmp_path / "data.npz"), Recorder()
    files = {"model": str(tmp_path / "net.onnx"), "calib": data, "eval": data}
    run = start(files, tmp_path / "run", observer, metric="sqnr")
    with pytest.raises(ModelError, match=BODIES[body]):
        run.search()
    assert "Calibrating" not in observer.stages
    assert run.inspect().groups == ()
