"""What the compile check costs a build: `python -m bench.compile_check`.

Every network's uniform INT8 plan goes the way that `trt-mpq build` sends it, compiled in a process of its own by
TensorRT for RTX. The compiler's process is observed: its wall time and its largest resident memory.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import onnx
import onnx_ir as ir

from bench.compiled import ADA, BATCH, MISSING
from bench.fusions import REAL
from bench.networks import IMAGE, ResNet
from bench.observed import Subject
from bench.real import MODELS
from trt_mpq.engine.build import build_engine
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import ShapeRange

RESULTS = Path(__file__).resolve().parent / "results" / "compile-check.md"
LARGE, DEPTHS = "bottlenecks", (3, 8, 41, 3)
"""A ResNet of 171 groups, random weights."""
_KIB_PER_MIB = 1024


@dataclass(frozen=True)
class Cost:
    """Of one compilation: seconds until its outcome, and the largest resident memory of its process in MiB."""

    network: str
    groups: int
    seconds: float
    mebibytes: float
    engine_mb: float


def subjects(folder: Path) -> Iterator[tuple[Subject, Mapping[str, tuple[int, ...]]]]:
    """The real networks and the large one, with the shapes of one sample."""
    for name in MODELS:
        yield Subject(name, MODELS[name].path, REAL[name]), REAL[name]
    file, shapes = folder / f"{LARGE}.onnx", {"input": (1, *IMAGE)}
    onnx.save(ResNet(0, batch_norm=True).build(DEPTHS, 64, IMAGE, 1000), file)
    yield Subject(LARGE, file, shapes), shapes


def cost(name: str, groups: int, network: Path, shapes: Mapping[str, tuple[int, ...]]) -> Cost:
    """Compile `network` as a build does; to be called in a fresh process, whose only child the compiler is."""
    ranges = {
        key: ShapeRange((1, *shape[1:]), (BATCH, *shape[1:]), (BATCH, *shape[1:])) for key, shape in shapes.items()
    }
    request = BuildRequest(
        onnx=str(network), engine="engine.plan", typing="strong", shapes=ranges, options=EngineOptions(),
        timing_cache="", flavour="rtx", capabilities=(ADA,),
    )  # fmt: skip
    build = build_engine(request, network.parent)
    if not build.built:
        raise SystemExit(f"{name}: {build.reason}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / _KIB_PER_MIB
    return Cost(name, groups, build.seconds, peak, (build.size_bytes or 0) / 1e6)


def costs() -> Iterator[Cost]:
    """Every network's."""
    with tempfile.TemporaryDirectory() as folder:
        for subject, shapes in subjects(Path(folder)):
            network = Path(folder) / subject.name / "network.onnx"
            network.parent.mkdir()
            ir.save(subject.emitted(subject.grouping.uniform(Precision.INT8)), network)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                measured = partial(cost, subject.name, len(subject.grouping.groups), network, shapes)
                yield pool.submit(measured).result()


def table(rows: list[Cost], version: str) -> str:
    """Everything as Markdown."""
    lines = [
        "# What the compile check costs a build", "",
        f"TensorRT for RTX {version}, compute capability {ADA / 10}, batch 1 to {BATCH}, uniform INT8, "
        "two cores without a GPU; `python -m bench.compile_check`. Start of the compiler's process included.", "",
        "| network | groups | seconds | memory, MiB | engine, MB |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {row.network} | {row.groups} | {row.seconds:.1f} | {row.mebibytes:.0f} | {row.engine_mb:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, then write the table."""
    if MISSING:
        raise SystemExit(MISSING)
    import tensorrt_rtx_bindings as trt

    text = table(list(costs()), trt.__version__)
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
