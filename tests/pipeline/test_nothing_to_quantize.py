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


def files_of(body: str, folder: Path) -> dict[str, str]:
    text = f"g (float[N,4,4] x) => (float[N,4,m] y) {{ {body} }}"
    constants = {"w": np.ones((4, 4), np.float32), "v": np.ones(4, np.float32), "last": np.array([2])}
    onnx.save(parsed(f'<ir_version: 8, opset_import: ["":17]> {text}', constants), folder / "net.onnx")
    np.savez(folder / "data.npz", x=np.ones((3, 4, 4), np.float32))
    return {"model": str(folder / "net.onnx"), "calib": str(folder / "data.npz"), "eval": str(folder / "data.npz")}


@pytest.mark.parametrize("body", BODIES)
def test_a_model_with_nothing_to_quantize_is_told(body: str, tmp_path: Path) -> None:
    observer = Recorder()
    run = start(files_of(body, tmp_path), tmp_path / "run", observer, metric="sqnr")
    with pytest.raises(ModelError, match=BODIES[body]):
        run.search()
    assert "Calibrating" not in observer.stages
    assert run.inspect().groups == ()


@pytest.mark.parametrize("pattern", [{"keep": ("int8:*",)}, {"exclude": ("*",)}])
def test_patterns_of_groups_are_not_blamed_where_there_are_none(pattern: dict[str, tuple[str]], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing to quantize"):
        start(files_of("y = Relu(x)", tmp_path), tmp_path / "run", metric="sqnr", **pattern)
