"""What runs of the suite deliver is compiled when it is over, and what is not expected fails it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from tests.compiler import NEEDS_RTX
from tests.delivered import Origin, keep

TEXT = '<ir_version: 8, opset_import: ["":17]> n (float[4, 8] x) => (float[4, 8] y) { y = %s (x, w) }'


def network(operator: str, weight: float) -> onnx.ModelProto:
    proto = parser.parse_model(TEXT % operator)
    proto.graph.initializer.append(numpy_helper.from_array(np.full((8, 8), weight, np.float32), "w"))
    return proto


def test_networks_that_differ_in_numbers_alone_are_kept_once(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for operator, weight in (("MatMul", 1.0), ("MatMul", 2.0), ("Gemm", 1.0)):
        onnx.save(network(operator, weight), tmp_path / "typed.onnx")
        keep(tmp_path / "typed.onnx", kept, Origin("a test"))
    assert len(list(kept.glob("*.onnx"))) == 2


@NEEDS_RTX
@pytest.mark.parametrize(
    ("operator", "expected", "workers", "fault"),
    [
        ("MatMul", "", "1", ""),
        ("MatMulInteger", "", "0", "it is refused by the parser"),
        ("MatMulInteger", "", "1", "it is refused by the parser"),
        ("MatMulInteger", "false", "1", ""),  # NVIDIA's parser says no more of it
        ("MatMulInteger", "for another reason", "0", "it is refused by the parser"),
        ("MatMul", "false", "0", "it is taken, and should be refused: false"),
    ],
)
def test_what_is_not_expected_fails_the_session(
    operator: str, expected: str, workers: str, fault: str, tmp_path: Path
) -> None:
    proto = network(operator, 1.0)
    if operator == "MatMulInteger":
        proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
        proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 8), np.int8), "w"))
    onnx.save(proto, tmp_path / "typed.onnx")
    (tmp_path / "test_run.py").write_text(
        "import pytest\nfrom pathlib import Path\nfrom tests.delivered import FOLDER, RUNNING, keep\n"
        + (f"@pytest.mark.refused({expected!r})\n" if expected else "")
        + "def test_delivers(request):\n    stash = request.config.stash\n"
        f"    keep(Path({str(tmp_path)!r}) / 'typed.onnx', stash[FOLDER], stash[RUNNING])\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.delivered", "-n", workers, "--rootdir", ".", "test_run.py"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == bool(fault), done.stdout + done.stderr
    assert (f"NVIDIA's compiler, of what test_run.py::test_delivers delivers: {fault}" in done.stdout) == bool(fault)
