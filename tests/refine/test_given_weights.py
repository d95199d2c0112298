"""Weights of a quantized file keep its codes and scales, from the file to the delivered one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.networks import parsed
from tests.runs import Recorder, start
from trt_mpq.types import Precision

RANDOM = np.random.default_rng(0)
WIDTH = 32
HEAD = '<ir_version: 9, opset_import: ["":19]> g (float[N,32] x) => (float[N,32] y)'
INPUT = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
CODES = RANDOM.integers(-90, 91, (WIDTH, WIDTH)).astype(np.int8)  # no channel reaches 127
STEPS = RANDOM.uniform(0.001, 0.02, WIDTH).astype(np.float32)
CONSTANTS: dict[str, np.ndarray] = {
    "s": np.float32(0.03), "z": np.int8(0), "k": CODES, "ks": STEPS, "kz": np.zeros(WIDTH, np.int8),
    "one": np.float32(0.0123), "shifted": np.full(WIDTH, 100, np.int8),
    "floats": (CODES * STEPS + RANDOM.uniform(-0.3, 0.3, (WIDTH, WIDTH)) * STEPS).astype(np.float32),
}  # fmt: skip
FILES = {
    "per channel": ("v = DequantizeLinear <axis = 1> (k, ks, kz) y = MatMul (d, v)", "ks", None),
    "per channel, negative axis": ("v = DequantizeLinear <axis = -1> (k, ks, kz) y = MatMul (d, v)", "ks", None),
    "per tensor": ("v = DequantizeLinear (k, one, z) y = MatMul (d, v)", "one", None),
    "turned": (
        "t = DequantizeLinear <axis = 0> (k, ks, kz) v = Transpose <perm = [1, 0]> (t) y = MatMul (d, v)",
        "ks", (1, 0),
    ),
    "on the right of a Gemm": ("v = DequantizeLinear <axis = 0> (k, ks, kz) y = Gemm <transB = 1> (d, v)", "ks", None),
    "floats with a quantizer": (
        "c = QuantizeLinear <axis = 1> (floats, ks, kz) v = DequantizeLinear <axis = 1> (c, ks, kz) y = MatMul (d, v)",
        "ks", None,
    ),
}  # fmt: skip


def delivered(folder: Path, text: str) -> dict[str, np.ndarray]:
    """Initializers of the typed file of an all-INT8 plan that `--from-qdq` makes of a file."""
    onnx.save(parsed(f"{HEAD} {{ {INPUT} {text} }}", CONSTANTS), folder / "net.onnx")
    np.savez(folder / "data.npz", x=np.random.default_rng(1).standard_normal((16, WIDTH)).astype(np.float32))
    data = str(folder / "data.npz")
    files = {"model": str(folder / "net.onnx"), "calib": data, "eval": data}
    options = {"metric": "sqnr", "from_qdq": True, "target_accuracy": 0.1, "exclusions": "none"}
    run = start(
        files, folder / "run", Recorder(), precisions=(Precision.FP16, Precision.INT8), bias_correction=False, **options
    )
    run.emit()
    typed = onnx.load(folder / "run" / "typed.onnx")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in typed.graph.initializer}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_delivered_with_its_own_codes_and_scales(name: str, tmp_path: Path) -> None:
    text, scale, order = FILES[name]
    stored = delivered(tmp_path, text)
    (codes,) = (array for key, array in stored.items() if key.endswith("_int8_codes"))
    (steps,) = (array for key, array in stored.items() if key.endswith("v_int8_scale"))
    np.testing.assert_array_equal(codes, np.transpose(CODES, order) if order else CODES)
    np.testing.assert_array_equal(steps, CONSTANTS[scale].astype(np.float16))


@pytest.mark.parametrize(
    "text",
    [
        "v = DequantizeLinear <axis = 1> (k, ks, shifted) y = MatMul (d, v)",
        "v = DequantizeLinear <axis = 0> (k, ks, kz) y = MatMul (d, v)",
    ],
)
def test_scales_that_do_not_fit_are_made_anew(text: str, tmp_path: Path) -> None:
    stored = delivered(tmp_path, text)
    (codes,) = (array for key, array in stored.items() if key.endswith("_int8_codes"))
    assert (np.abs(codes).max(axis=0) == 127).all()
