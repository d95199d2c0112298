"""ONNX files through the product's door to TensorRT for RTX, many in one process, which may die of one.

`python -m bench.compiled FOLDER` compiles what the orders of a folder say and has no outcome beside it yet. The product
builds every engine in a process of its own, which takes longer to start than a small graph takes to compile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import onnx

from trt_mpq.runtime.tensorrt.builder import build
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types.engine import ShapeRange

ROOT = Path(__file__).resolve().parents[1]
ADA = 89
"""The compute capability that has INT8 and FP8 and is in most hands."""
BATCH = 4
"""What dynamic dimensions are built for, unless a shape is given."""
WHEELS = "tensorrt_rtx_bindings", "tensorrt_rtx_libs"
MISSING = "" if all(map(find_spec, WHEELS)) else "TensorRT for RTX is not installed: pip install '.[rtx]'"
"""Why nothing can be compiled here, empty if it can."""

_ORDERS = "orders.json"
_Key = TypeVar("_Key")
_Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Compiled:
    """What became of a file.

    Attributes:
        stage: "built", or who refused it: "parser", "compiler", or "crash" if the process died.
        message: Why it was refused, empty if it was not.
        engine: The engine, None if there is none.
    """

    stage: str
    message: str
    engine: bytes | None

    @property
    def built(self) -> bool:
        """Whether there is an engine."""
        return self.engine is not None


@dataclass(frozen=True)
class Order:
    """An ONNX file, and the compute capabilities, times ten, that one engine of it is for."""

    content: bytes
    capabilities: tuple[int, ...]


def compiled(
    files: Mapping[str, bytes], capabilities: Sequence[int] = (ADA,), shapes: _Shapes | None = None
) -> dict[str, Compiled]:
    """Every named ONNX file compiled for compute capabilities, into one engine for all of them.

    Args:
        files: Name to ONNX bytes.
        capabilities: Times ten.
        shapes: Name of an input to its whole shape, where dynamic dimensions are not all `BATCH`.
    """
    return engines({name: Order(content, tuple(capabilities)) for name, content in files.items()}, shapes)


def engines(orders: Mapping[_Key, Order], shapes: _Shapes | None = None) -> dict[_Key, Compiled]:
    """What becomes of every order, those that are equal compiled once; `shapes` as in `compiled`."""
    different = list(dict.fromkeys(orders.values()))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.onnx" for index in range(len(different))]
        for path, order in zip(paths, different, strict=True):
            path.write_bytes(order.content)
        capabilities = {path.name: order.capabilities for path, order in zip(paths, different, strict=True)}
        (Path(folder) / _ORDERS).write_text(json.dumps({"capabilities": capabilities, "shapes": shapes or {}}))
        while missing := [path for path in paths if not _outcome(path).exists()]:
            done = subprocess.run([sys.executable, "-m", __name__, folder], cwd=ROOT, stderr=-1)
            left = [path for path in missing if not _outcome(path).exists()]
            if left:  # it died of the first that has no outcome
                _write(left[0], "crash", f"the process ended with {done.returncode}")
        outcomes = dict(zip(different, map(_read, paths), strict=True))
    return {name: outcomes[order] for name, order in orders.items()}


def _outcome(path: Path) -> Path:
    return path.with_suffix(".json")


def _write(path: Path, stage: str, message: str) -> None:
    _outcome(path).write_text(json.dumps({"stage": stage, "message": message}))


def _read(path: Path) -> Compiled:
    engine = path.with_suffix(".plan")
    return Compiled(**json.loads(_outcome(path).read_text()), engine=engine.read_bytes() if engine.exists() else None)


def main() -> None:
    """Compile what has no outcome yet, in the order of the numbers."""
    folder = Path(sys.argv[1])
    orders = json.loads((folder / _ORDERS).read_text())
    for path in sorted(folder.glob("*.onnx"), key=lambda path: int(path.stem)):
        if not _outcome(path).exists():
            _compile(path, tuple(orders["capabilities"][path.name]), orders["shapes"])


def _compile(path: Path, capabilities: tuple[int, ...], given: _Shapes) -> None:
    shapes = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if 0 in sizes:
            shape = tuple(given.get(value.name, [size or BATCH for size in sizes]))
            shapes[value.name] = ShapeRange(shape, shape, shape)
    found = build(
        BuildRequest(
            onnx=str(path), engine=str(path.with_suffix(".plan")), typing="strong", shapes=shapes,
            options=EngineOptions(), timing_cache="", flavour="rtx", capabilities=capabilities,
        )
    )  # fmt: skip
    stage = "built" if found.built else "parser" if "cannot parse" in found.reason else "compiler"
    _write(path, stage, found.reason.partition(f"{path.name}: ")[2])


if __name__ == "__main__":
    main()
