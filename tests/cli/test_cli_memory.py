"""Files of a few kB whose constants would make gigabytes of each other, and what `inspect` takes to read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.networks import parsed

MOST_MIB = 1536
ELEMENTS = (1 << 24) - 1
"""A result of this many is small enough to be kept; dozens of them are not."""
PARTS = 28
_JOINED = " ".join(
    f"k{i} = Constant <value_float = {i}.5> () e{i} = Add (c0, k{i}) m{i} = Mul (e{i}, x)"
    f" r{i} = ReduceMax <keepdims = 0> (m{i})"
    for i in range(PARTS)
)
_CHAIN = " ".join(f"c{i} = Concat <axis = 0> (c{i - 1})" for i in range(1, PARTS))
BODIES = {
    "many results of one": f"{_JOINED} z = Mul (c0, x) rz = ReduceMax <keepdims = 0> (z) y = Sum (x, rz, "
    f"{', '.join(f'r{i}' for i in range(PARTS))})",
    "a chain whose shapes are followed": f"{_CHAIN} m = ReduceMax <keepdims = 0> (c{PARTS - 1}) y = Add (x, m)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_inspect_takes_little_memory(body: str, tmp_path: Path) -> None:
    text = f'<ir_version: 8, opset_import: ["":17]> n (float[1] x) => (float[1] y) {{ c0 = Expand (one, size) {body} }}'
    constants = {"one": np.ones(1, np.float32), "size": np.array([ELEMENTS])}
    onnx.save(parsed(text, constants), tmp_path / "bomb.onnx")
    command = [sys.executable, "-m", "trt_mpq", "inspect", "bomb.onnx", "-o", "run"]
    # What is wrong must not take the machine: an address space bounds it.
    measured = (
        "import resource, subprocess, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30));"
        "done = subprocess.run(sys.argv[1:], stdout=sys.stderr);"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", measured, *command], cwd=tmp_path, text=True, capture_output=True)
    code, mib = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert mib < MOST_MIB
