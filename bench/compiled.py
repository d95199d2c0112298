"""ONNX files through the parser and the compiler of TensorRT for RTX, in a process of their own, which may die of one.

`python -m bench.compiled FOLDER SM` compiles every file of a folder that has no outcome beside it yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCH = 4
"""What dynamic dimensions are built for, unless a shape says otherwise."""


@dataclass(frozen=True)
class Compiled:
    """What became of a file.

    Attributes:
        stage: "built", or who refused it: "parser", "compiler", or "crash" if the process died.
        message: What was said first.
        engine: The engine's file, None if there is none.
    """

    stage: str
    message: str = ""
    engine: Path | None = None

    @property
    def built(self) -> bool:
        """Whether there is an engine."""
        return self.stage == "built"


@cache
def unavailable() -> str:
    """Why nothing can be compiled here, empty if it can."""
    if find_spec("tensorrt_rtx_bindings") is None or find_spec("tensorrt_rtx_libs") is None:
        return "the extra `rtx` is not installed (tensorrt-rtx-cu12-bindings and -libs)"
    return ""


def compiled(
    files: Mapping[str, bytes], sm: str = "SM89", shapes: Mapping[str, Any] | None = None
) -> dict[str, Compiled]:
    """Every named ONNX file compiled for a compute capability; the engines stay in a temporary folder.

    Args:
        files: Name to ONNX bytes.
        sm: Such as "SM89".
        shapes: Name of an input to its whole shape, where dynamic dimensions are not all `BATCH`.
    """
    folder = Path(tempfile.mkdtemp(prefix="compiled-"))
    different = list(dict.fromkeys(files.values()))
    numbered = {name: folder / f"{different.index(content)}.onnx" for name, content in files.items()}
    for index, content in enumerate(different):
        (folder / f"{index}.onnx").write_bytes(content)
    (folder / "shapes.json").write_text(json.dumps(shapes or {}))
    return _outcomes(folder, numbered, sm)


def _outcomes(folder: Path, numbered: Mapping[str, Path], sm: str) -> dict[str, Compiled]:
    files = sorted(set(numbered.values()), key=lambda path: int(path.stem))
    while missing := [path for path in files if not path.with_suffix(".json").exists()]:
        command = [sys.executable, "-m", "bench.compiled", str(folder), sm]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        left = [path for path in missing if not path.with_suffix(".json").exists()]
        if left:  # it died of the first that has no outcome
            _write(left[0], "crash", f"the process ended with {done.returncode}")
    outcomes = {}
    for name, path in numbered.items():
        said = json.loads(path.with_suffix(".json").read_text())
        engine = path.with_suffix(".engine")
        outcomes[name] = Compiled(said["stage"], said["message"], engine if engine.exists() else None)
    return outcomes


def _write(path: Path, stage: str, message: str) -> None:
    path.with_suffix(".json").write_text(json.dumps({"stage": stage, "message": message}))


def main() -> None:
    """Compile what has no outcome yet; run in a process of its own."""
    folder, sm = Path(sys.argv[1]), sys.argv[2]
    shapes = json.loads((folder / "shapes.json").read_text())
    for path in sorted(folder.glob("*.onnx"), key=lambda path: int(path.stem)):
        if not path.with_suffix(".json").exists():
            _compile(path, sm, shapes)


def _compile(path: Path, sm: str, shapes: Mapping[str, list[int]]) -> None:
    import tensorrt_rtx_bindings as trt

    said: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                said.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        _write(path, "parser", parser.get_error(0).desc() if parser.num_errors else "")
        return
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for tensor in map(network.get_input, range(network.num_inputs)):
        shape = shapes.get(tensor.name, [BATCH if size < 0 else size for size in tensor.shape])
        if not tensor.is_shape_tensor:
            profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, sm), 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        _write(path, "compiler", said[0] if said else "")
        return
    path.with_suffix(".engine").write_bytes(engine)
    _write(path, "built", "")


if __name__ == "__main__":
    main()
