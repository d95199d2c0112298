"""Files of a few kB whose constants would make gigabytes of each other, and what `inspect` takes to read them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from tests.networks import parsed
from trt_mpq.cli import app, options
from trt_mpq.errors import RuntimeFailure

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
        "import resource, subprocess, sys; resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30));"
        "done = subprocess.run(sys.argv[1:], stdout=sys.stderr);"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", measured, *command], cwd=tmp_path, text=True, capture_output=True)
    code, mib = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert mib < MOST_MIB


def run_in(folder: Path, data: str) -> subprocess.CompletedProcess[str]:
    """A build of `large.onnx`, which makes 1.25 GiB of a sample, that may take 600 MiB."""
    text = (
        '<ir_version: 8, opset_import: ["":17]> n (float[batch, 16] x) => (float[batch, 4] y) {'
        " g = MatMul (x, w) e = Expand (g, size) m = ReduceMax <axes = [0], keepdims = 0> (e) y = Add (g, m) }"
    )
    constants = {"w": np.ones((16, 4), np.float32), "size": np.array([5 << 24, 1, 1])}
    onnx.save(parsed(text, constants), folder / "large.onnx")
    command = [sys.executable, "-m", "trt_mpq", "build", "large.onnx", "--calib", data, "--no-engine", "--batch", "1"]
    return subprocess.run([*command, "--memory-mib", "600"], text=True, capture_output=True, check=False, cwd=folder)


def test_a_network_that_takes_more_memory_than_it_may_ends_in_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((1, 16), np.float32))
    done = run_in(tmp_path, "data.npz")
    assert done.returncode == 2, done.stderr
    assert "error: ONNX Runtime could not run the graph" in done.stderr.splitlines()[-1]
    assert done.stderr.count("error: ") == 1


def test_so_does_data(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"shape": (11 << 20, 16), "fortran_order": False, "descr": "<f4"})
        for _ in range(11 << 6):
            file.write(bytes(1 << 20))
    done = run_in(tmp_path, "data.npz")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: data.npz does not fit into memory: store each input as an .npy"
    )


def test_memory_that_python_asks_for_is_told_by_the_option() -> None:
    words = "more memory than --memory-mib 700: raise it, or choose a smaller --batch"
    with pytest.raises(RuntimeFailure, match=words), options._memory_of(700):
        np.empty(1 << 30, np.uint8)


def test_less_than_the_libraries_take_is_refused() -> None:
    done = CliRunner().invoke(app, ["lint", "large.onnx", "--memory-mib", "100"])
    assert done.exit_code == 2
    assert "512" in done.stderr
